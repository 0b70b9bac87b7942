import { readFileSync } from 'node:fs';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { TRUSTED } from '../helpers/binary-cache.ts';
import { run } from '../helpers/cli.ts';
import { mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';

/** What a mount takes is 130 MB, and as much again for what is under way. */
const MAX_MEMORY = 300 << 20;
/** Longer than it takes for much to come. */
const TIMEOUT = '8s';
const NAME = `${'0'.repeat(32)}-name`;

const toEnd: (() => void)[] = [];
afterAll(() => {
  for (const end of toEnd) end();
});

/** Sends for as long as anybody takes it. */
function forEver(socket: Socket, part: Buffer): void {
  const go = () => {
    while (!socket.destroyed && socket.write(part));
    if (!socket.destroyed) socket.once('drain', go);
  };
  go();
}

/** Serves with raw bytes: `answer` is told what a client has sent at once. */
async function serving(answer: (socket: Socket, sent: Buffer) => void): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.on('data', (sent) => answer(socket, sent));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  toEnd.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

function overHttp(start: string, part: string): () => Promise<string> {
  return async () => {
    const port = await serving((socket) => {
      socket.removeAllListeners('data').resume();
      socket.write(start);
      forEver(socket, Buffer.from(part));
    });
    return `nix+http://127.0.0.1:${port}${TRUSTED}`;
  };
}

const HEADERS = 1;
const SETTINGS = 4;
const CONTINUATION = 9;
const ACK = 1;
const END_STREAM = 1;
const END_HEADERS = 4;

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

function frame({ type, flags, stream, payload }: Frame): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A header field as HPACK has it that is not indexed; the name and the value are short. */
function field(name: string, value: string): Buffer {
  const of = (text: string) => [Buffer.of(text.length), Buffer.from(text)];
  return Buffer.concat([Buffer.of(0), ...of(name), ...of(value)]);
}

const GRPC = Buffer.concat([field(':status', '200'), field('content-type', 'application/grpc')]);
const FIELDS = Buffer.concat(Array.from({ length: 8 }, () => field('x', 'a'.repeat(120))));

/** Answers the first request on each connection: with some frames, and then with one for ever. */
function overGrpc(first: Omit<Frame, 'stream'>[], again: Omit<Frame, 'stream'>): () => Promise<string> {
  return async () => {
    const port = await serving((socket, sent) => {
      // The first request comes at once with what begins a connection, or is the next to come.
      const at = sent.indexOf('PRI * HTTP/2.0') === 0 ? 24 : 0;
      for (let next = at; next + 9 <= sent.length; next += 9 + sent.readUIntBE(next, 3)) {
        const type = sent.readUInt8(next + 3);
        if (type === SETTINGS && sent.readUInt8(next + 4) === 0)
          for (const flags of [0, ACK])
            socket.write(frame({ type: SETTINGS, flags, stream: 0, payload: Buffer.alloc(0) }));
        if (type !== HEADERS) continue;
        socket.removeAllListeners('data').resume();
        const stream = sent.readUInt32BE(next + 5);
        for (const one of first) socket.write(frame({ ...one, stream }));
        forEver(socket, frame({ ...again, stream }));
        return;
      }
    });
    return `grpc+http://127.0.0.1:${port}`;
  };
}

const CONTINUED = { type: CONTINUATION, flags: 0, payload: FIELDS };

const SERVERS: Record<string, () => Promise<string>> = {
  'HTTP: header lines': overHttp('HTTP/1.1 200 OK\r\n', 'X-Line: x\r\n'),
  'HTTP: headers without a name': overHttp('HTTP/1.1 200 OK\r\n', 'a:\r\n'),
  'HTTP: one header': overHttp('HTTP/1.1 200 OK\r\nX-Line: ', 'x'.repeat(8000)),
  'HTTP: blanks before a header': overHttp('HTTP/1.1 200 OK\r\nX-Line: ', ' '.repeat(8000)),
  'HTTP: empty lines': overHttp('', '\r\n'.repeat(4000)),
  'HTTP: a reason': overHttp('HTTP/1.1 200 ', 'x'.repeat(8000)),
  'HTTP: answers before the answer': overHttp('', 'HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n'),
  'HTTP: trailers': overHttp(
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n',
    'X-Line: x\r\n',
  ),
  'gRPC: headers': overGrpc([{ type: HEADERS, flags: 0, payload: GRPC }], CONTINUED),
  'gRPC: trailers': overGrpc(
    [
      { type: HEADERS, flags: END_HEADERS, payload: GRPC },
      { type: HEADERS, flags: END_STREAM, payload: field('grpc-status', '0') },
    ],
    CONTINUED,
  ),
  'gRPC: answers before the answer': overGrpc([], {
    type: HEADERS,
    flags: END_HEADERS,
    payload: Buffer.concat([field(':status', '103'), FIELDS]),
  }),
};

test.for(Object.entries(SERVERS))('a mount outlives, and is not filled by, endless %s', async ([, serve]) => {
  const there = await mount([
    '--store',
    await serve(),
    '--cache',
    join(tempDir(), 'cache'),
    '--timeout',
    TIMEOUT,
  ]);
  const { stderr } = await run('ls', [join(there.dir, NAME)]);
  expect(stderr).toContain('Input/output error');
  const [, kilobytes] = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${there.pid}/status`, 'utf8'))!;
  expect(Number(kilobytes) * 1024).toBeLessThan(MAX_MEMORY);
  expect(await there.stop()).toMatchObject({ status: 0, log: expect.not.stringContaining('fault') });
});
