/**
 * A client that takes all it can get, in a process of its own so that what it holds is not counted as the server's:
 *
 *   greedy-client.ts KIND PORT TARGETS
 *
 * TARGETS are those of `greedy-store.ts`, as JSON. It goes on until it is killed.
 */
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { tvix } from '../../src/proto/messages.ts';
import type { GreedyTargets } from './greedy-store.ts';

const { GetDirectoryRequest, ReadBlobRequest, StatBlobRequest, Node } = tvix.castore.v1;
const BLOBS = '/tvix.castore.v1.BlobService';
const READ = `${BLOBS}/Read`;
const STAT = `${BLOBS}/Stat`;
const PUT = `${BLOBS}/Put`;
const GET_DIRECTORY = '/tvix.castore.v1.DirectoryService/Get';
const PUT_DIRECTORY = '/tvix.castore.v1.DirectoryService/Put';
const CALCULATE = '/tvix.store.v1.PathInfoService/CalculateNAR';
const WATCH = '/grpc.health.v1.Health/Watch';
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
const MIB = 1 << 20;
/** After an answer, before the next is asked for by those who ask without end. */
const PAUSE_MS = 5;

const [kind, port, json] = process.argv.slice(2);
const targets: GreedyTargets = JSON.parse(json!);
const bytesOf = (hex: string) => Buffer.from(hex, 'hex');
const large = Buffer.from(ReadBlobRequest.encode({ digest: bytesOf(targets.large) }).finish());
const stat = Buffer.from(
  StatBlobRequest.encode({ digest: bytesOf(targets.listed), sendChunks: true }).finish(),
);
const closure = Buffer.from(
  GetDirectoryRequest.encode({ digest: bytesOf(targets.closure), recursive: true }).finish(),
);
const node = Buffer.from(
  Node.encode({ file: { digest: bytesOf(targets.large), size: targets.largeSize } }).finish(),
);

// Whatever is done to it, it goes on.
process.on('uncaughtException', () => {});

/** A message of gRPC. */
function framed(message: Buffer, length = message.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, message]);
}

async function session(): Promise<ClientHttp2Session> {
  const made = connectHttp2(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 65_535 } });
  made.on('error', () => {});
  await new Promise<void>((resolve) => made.once('remoteSettings', () => resolve()).once('close', resolve));
  return made;
}

function open(
  from: ClientHttp2Session,
  path: string,
  headers: Record<string, string> = {},
): ClientHttp2Stream {
  const stream = from.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  stream.on('error', () => {});
  return stream;
}

/** Makes a call; its answer is not read. */
function ask(from: ClientHttp2Session, path: string, request: Buffer): ClientHttp2Stream {
  const stream = open(from, path);
  stream.end(framed(request));
  return stream;
}

/** Calls without end: so many at a time over so many connections, whose answers are read. */
async function ceaselessly(connections: number, each: number, path: string, request: Buffer): Promise<void> {
  const one = async () => {
    for (;;) {
      const from = await session();
      const caller = async () => {
        while (!from.closed && !from.destroyed) {
          const stream = ask(from, path, request);
          stream.resume();
          await new Promise((resolve) => stream.once('close', resolve));
          await delay(PAUSE_MS);
        }
      };
      await Promise.all(Array.from({ length: each }, caller));
      await delay(100);
    }
  };
  await Promise.all(Array.from({ length: connections }, one));
}

/** Opens so many calls over so many connections, and others in place of those that are ended. */
async function held(
  connections: number,
  each: number,
  begin: (from: ClientHttp2Session) => ClientHttp2Stream,
): Promise<void> {
  const one = async () => {
    for (;;) {
      const from = await session();
      const slot = async () => {
        while (!from.closed && !from.destroyed) {
          const stream = begin(from);
          await new Promise((resolve) => stream.once('close', resolve));
          await delay(100);
        }
      };
      await Promise.all(Array.from({ length: each }, slot));
      await delay(100);
    }
  };
  await Promise.all(Array.from({ length: connections }, one));
}

const half = Buffer.alloc(60 * MIB, 1);
const KINDS: Record<string, () => Promise<void>> = {
  /** Asks for long lists without end. */
  lists: () => ceaselessly(4, 15, STAT, stat),
  /** Asks for long lists, and reads none. */
  'unread-lists': () => held(4, 15, (from) => ask(from, STAT, stat)),
  /** Sends messages of 61 MiB but for the last bytes. */
  'half-sent': () =>
    held(4, 4, (from) => {
      const stream = open(from, PUT);
      stream.write(framed(half, 61 * MIB));
      return stream;
    }),
  /** Says that much is coming, and sends it byte by byte, each in a frame. */
  drip: () =>
    held(2, 8, (from) => {
      const stream = open(from, PUT_DIRECTORY);
      stream.write(framed(Buffer.alloc(0), 61 * MIB));
      const timer = setInterval(() => {
        for (let i = 0; i < 200 && stream.writableLength < 1000; i++) stream.write(Buffer.alloc(1));
      }, 10);
      stream.once('close', () => clearInterval(timer));
      return stream;
    }),
  'unread-reads': () => held(10, 500, (from) => ask(from, READ, large)),
  'unread-closures': () => held(8, 64, (from) => ask(from, GET_DIRECTORY, closure)),
  /** Uploads that begin and stop. */
  'stopped-uploads': () =>
    held(4, 250, (from) => {
      const stream = open(from, PUT);
      stream.write(framed(Buffer.concat([Buffer.from([0x0a, 0x80, 0x80, 0x10]), Buffer.alloc(1 << 18)])));
      return stream;
    }),
  /** Calls of which nothing comes. */
  silent: () => held(8, 1000, (from) => open(from, PUT)),
  /** With as much of headers as is taken. */
  headers: () => held(8, 500, (from) => open(from, PUT, { 'x-large': 'y'.repeat(15_000) })),
  calculate: () => ceaselessly(4, 50, CALCULATE, node),
  watch: () => held(4, 1000, (from) => ask(from, WATCH, Buffer.alloc(0))),
  reflection: () => ceaselessly(4, 100, REFLECTION, Buffer.from([0x3a, 0])),
  /** Asks for what is not there. */
  stats: () => ceaselessly(8, 100, STAT, Buffer.concat([Buffer.from([0x0a, 32]), Buffer.alloc(32, 9)])),
  /** Connections that say nothing, or half of what is to be said first. */
  connections: async () => {
    for (let i = 0; ; i++) {
      const socket = connect(Number(port), '127.0.0.1');
      socket.on('error', () => {});
      const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
      const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings]);
      const headers = Buffer.from([0, 0x3f, 0xff, 1, 0, 0, 0, 0, 1]);
      if (i % 3 > 0) socket.write(preface);
      if (i % 3 > 1) socket.write(Buffer.concat([headers, Buffer.alloc(16_000, 0)]));
      if (i > 3000) await delay(20);
      else if (i % 20 === 0) await delay(10);
    }
  },
};

console.log('begun');
await KINDS[kind!]!();
