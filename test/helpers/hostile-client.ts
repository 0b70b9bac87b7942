import type { NetConnectOpts, Socket } from 'node:net';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';

/** Numbers from 0 up to 1. */
export type Random = () => number;

export const below = (random: Random, limit: number) => Math.floor(random() * limit);
export const pick = <T>(random: Random, list: readonly T[]): T => list[below(random, list.length)]!;
const noise = (random: Random, length: number) =>
  Buffer.from(Array.from({ length }, () => below(random, 256)));

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
/** Of HTTP/2 frames (RFC 9113). */
const [DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE, CONTINUATION] = [0, 1, 3, 4, 7, 8, 9];
const [END_STREAM, END_HEADERS] = [1, 4];

function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Headers without compression (RFC 7541, 6.2.2). */
function headerBlock(headers: Record<string, string>): Buffer {
  const text = (value: string) =>
    Buffer.concat([Buffer.from([Math.min(value.length, 126)]), Buffer.from(value)]);
  const fields = Object.entries(headers).flatMap(([name, value]) => [
    Buffer.from([0]),
    text(name),
    text(value),
  ]);
  return Buffer.concat(fields);
}

/** A message of gRPC that may lie about its length, its compression and its contents. */
function grpcMessage(random: Random): Buffer {
  const body = noise(random, below(random, 40));
  const head = Buffer.from([pick(random, [0, 0, 1, 255]), 0, 0, 0, 0]);
  head.writeUInt32BE(pick(random, [body.length, body.length, 0, body.length + 7, 0xffffffff, 70 << 20]), 1);
  return Buffer.concat([head, body]);
}

const METHODS = ['Stat', 'Read', 'Put', 'Nothing'].map((name) => `/tvix.castore.v1.BlobService/${name}`);
const PATHS = [
  ...METHODS,
  '/snix.castore.v1.DirectoryService/Put',
  '/tvix.store.v1.PathInfoService/Get',
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
  '/grpc.health.v1.Health/Watch',
  '/',
  '',
];

function grpcHeaders(random: Random): Record<string, string> {
  return {
    ':method': pick(random, ['POST', 'POST', 'POST', 'GET', 'CONNECT', 'x']),
    ':scheme': 'http',
    ':path': pick(random, PATHS),
    ':authority': 'x',
    'content-type': pick(random, ['application/grpc', 'application/grpc', 'text/plain', '']),
    te: 'trailers',
    ...(random() < 0.2 && { 'grpc-timeout': pick(random, ['0n', '1m', 'zzz', '99999999H', '-1S']) }),
    ...(random() < 0.3 && { 'grpc-encoding': pick(random, ['gzip', 'deflate', 'br', 'identity', '']) }),
    ...(random() < 0.1 && { 'x-bin': '%%%' }),
    ...(random() < 0.1 && { expect: '100-continue' }),
    ...(random() < 0.1 && { 'Upper-Case': 'x' }),
    ...(random() < 0.05 && { authorization: 'x'.repeat(120) }),
  };
}

/** The frames of a call, with everything wrong that can be. */
function call(random: Random, stream: number): Buffer[] {
  const block = headerBlock(grpcHeaders(random));
  const cut = below(random, block.length);
  const flags = pick(random, [END_HEADERS, END_HEADERS, END_HEADERS | END_STREAM]);
  const headers =
    random() < 0.1
      ? [
          frame(HEADERS!, 0, stream, block.subarray(0, cut)),
          frame(CONTINUATION!, 4, stream, block.subarray(cut)),
        ]
      : [frame(HEADERS!, flags, stream, block)];
  const data = Array.from({ length: below(random, 4) }, () =>
    frame(DATA!, pick(random, [0, END_STREAM]), stream, grpcMessage(random)),
  );
  const after = [
    frame(RST_STREAM!, 0, stream, Buffer.from([0, 0, 0, below(random, 14)])),
    frame(WINDOW_UPDATE!, 0, pick(random, [0, stream]), Buffer.from([0x7f, 255, 255, 255])),
    frame(GOAWAY!, 0, 0, Buffer.alloc(8)),
    frame(SETTINGS!, 0, 0, Buffer.from([0, 4, 0, 0, 0, below(random, 2)])),
    frame(below(random, 12), below(random, 256), below(random, 9), noise(random, below(random, 30))),
  ];
  return [...headers, ...data, ...(random() < 0.6 ? [pick(random, after)] : [])];
}

/** What a client of gRPC sends that means no good. */
export function badGrpc(random: Random): Buffer[] {
  const settings = frame(SETTINGS!, 0, 0);
  const streams = (count: number, make: (stream: number) => Buffer[]) =>
    Array.from({ length: count }, (_, i) => make(2 * i + 1)).flat();
  switch (below(random, 8)) {
    case 0:
      return [noise(random, below(random, 2000))];
    case 1:
      return [PREFACE.subarray(0, below(random, PREFACE.length))];
    case 2:
      return [PREFACE, noise(random, below(random, 500))];
    // Streams that are opened, and reset at once or never.
    case 3: {
      const reset = (stream: number) => frame(RST_STREAM!, 0, stream, Buffer.from([0, 0, 0, 8]));
      const resets = random() < 0.5;
      const open = (stream: number) => [
        frame(HEADERS!, END_HEADERS, stream, headerBlock(grpcHeaders(random))),
        ...(resets ? [reset(stream)] : []),
      ];
      return [PREFACE, settings, ...streams(300, open)];
    }
    // More headers than anybody keeps.
    case 4: {
      const part = Buffer.concat(
        Array.from({ length: 100 }, () => headerBlock({ [`x-${'y'.repeat(90)}`]: 'z'.repeat(100) })),
      );
      const more = Array.from({ length: below(random, 20) }, () =>
        frame(CONTINUATION!, 0, 1, part.subarray(0, 16_000)),
      );
      return [PREFACE, settings, frame(HEADERS!, 0, 1, part.subarray(0, 16_000)), ...more];
    }
    default:
      return [PREFACE, settings, ...streams(1 + below(random, 5), (stream) => call(random, stream))];
  }
}

const TARGETS = [
  '/nix-cache-info',
  '/nar/x.nar',
  '/%',
  '/../..',
  '*',
  'http://x/y',
  '//',
  '',
  '/\u0000',
  '/upload',
];
const HASH = '0'.repeat(32);

/** What a client of HTTP sends that means no good. */
export function badHttp(random: Random): Buffer[] {
  if (random() < 0.1) return [noise(random, below(random, 2000))];
  if (random() < 0.1) return [PREFACE, frame(SETTINGS!, 0, 0)];
  const target = pick(random, [...TARGETS, `/${HASH}.narinfo`, `/nar/${HASH}.nar`, `/${HASH}.ls`]);
  const lines = [
    `${pick(random, ['GET', 'PUT', 'HEAD', 'POST', 'CONNECT', 'OPTIONS', 'x y'])} ${target} HTTP/1.${below(random, 3)}`,
  ];
  const odd = [
    'Host: x',
    'Content-Length: 5',
    'Content-Length: -1',
    'Content-Length: 99999999999999999999',
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: gzip, chunked',
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__',
    'Expect: 100-continue',
    'Expect: something',
    'Range: bytes=9-1,-0,,5-',
    'Accept-Encoding: \u0001, zstd;q=nan',
    'Authorization: Basic !!!',
    'X-Forwarded-For: x',
    'No colon',
    ': no name',
    `X-Long: ${'y'.repeat(pick(random, [10, 5000, 70_000]))}`,
  ];
  for (let i = below(random, 5); i > 0; i--) lines.push(pick(random, odd));
  const head = Buffer.from(`${lines.join('\r\n')}${pick(random, ['\r\n\r\n', '\r\n\r\n', '\n\n', '\r\n'])}`);
  const bodies = ['hello', '5\r\nhello\r\n0\r\n\r\n', 'zz\r\n', 'ffffffffffffffff\r\n', `StorePath: x\n`];
  const request = Buffer.concat([head, Buffer.from(pick(random, ['', ...bodies]))]);
  return Array.from({ length: 1 + below(random, 3) }, () => request);
}

/** What may come in place of a TLS handshake, or in the middle of one. */
export function badTls(random: Random): Buffer[] {
  const fatalAlert = Buffer.from([21, 3, 3, 0, 2, 2, 40]);
  const record = Buffer.concat([Buffer.from([22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]), noise(random, 245)]);
  return pick(random, [
    [fatalAlert],
    [record, fatalAlert],
    [record.subarray(0, below(random, record.length))],
    [noise(random, below(random, 300))],
    [PREFACE],
    [Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ]);
}

/** Connects, sends parts in one way or another, and leaves in one way or another. */
export async function attack(
  random: Random,
  at: NetConnectOpts,
  parts: Buffer[],
  tls = false,
): Promise<void> {
  const raw = connect(at);
  raw.on('error', () => {});
  let socket: Socket = raw;
  if (tls) {
    const ALPNProtocols = pick(random, [['h2'], ['http/1.1'], ['h2', 'http/1.1'], []]);
    socket = connectTls({ socket: raw, rejectUnauthorized: false, ALPNProtocols });
    socket.on('error', () => {});
  }
  // Some read what comes, some do not.
  if (random() < 0.7) socket.resume();
  const bytes = Buffer.concat(parts);
  if (random() < 0.2) {
    // A slow drip.
    for (let at = 0; at < Math.min(bytes.length, 40 * 7) && !socket.destroyed; at += 7) {
      socket.write(bytes.subarray(at, at + 7));
      await delay(1);
    }
  } else socket.write(random() < 0.2 ? bytes.subarray(0, below(random, bytes.length)) : bytes);
  await delay(random() * 20);
  switch (below(random, 4)) {
    case 0:
      socket.end();
      await delay(5);
      raw.destroy();
      break;
    case 1:
      raw.resetAndDestroy();
      break;
    case 2:
      socket.destroy();
      raw.destroy();
      break;
    default:
      await delay(30);
      raw.resetAndDestroy();
  }
}
