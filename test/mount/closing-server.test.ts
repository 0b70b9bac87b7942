import { execFile } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { AddressInfo, Socket } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { TRUSTED, testPath } from '../helpers/binary-cache.ts';
import { program } from '../helpers/compress.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';
import { file } from '../helpers/trees.ts';
import { servedByPython } from '../helpers/web-server.ts';

const execute = promisify(execFile);

// undici 7.30 threw out of a socket's event when a body of 66 000 to 131 072 bytes came at once, and then the end.
const SIZES = [
  0, 1, 60_000, 66_000, 80_000, 98_304, 120_000, 131_072, 140_000, 262_144, 1_000_000, 5_000_000,
];

const folder = tempDir();
const contents = SIZES.map((size) => randomBytes(size, size));
// Undoing xz takes longer than the bytes take to come: the end of the connection finds the reader behind.
const paths = contents.map((bytes, i) =>
  testPath(`of-${SIZES[i]}`, { tree: file(bytes), compression: 'xz', compress: program('xz', ['-0', '-c']) }),
);
const toEnd: (() => void)[] = [];

beforeAll(() => {
  mkdirSync(join(folder, 'nar'));
  writeFileSync(join(folder, 'nix-cache-info'), 'StoreDir: /nix/store\n');
  for (const { info, file: packed } of paths) {
    writeFileSync(join(folder, `${info.storePath.hashText}.narinfo`), info.toString());
    writeFileSync(join(folder, info.url), packed);
  }
});

afterAll(() => {
  for (const end of toEnd) end();
});

/** How a server of its own writes a file: each closes the connection behind it. */
const WAYS: Record<string, (socket: Socket, body: Buffer) => void> = {
  'HTTP/1.0': (socket, body) => socket.end(head('1.0', body, `Content-Length: ${body.length}\r\n`)),
  'HTTP/1.0 without a length': (socket, body) => socket.end(head('1.0', body, '')),
  'HTTP/1.1 with Connection: close': (socket, body) =>
    socket.end(head('1.1', body, `Content-Length: ${body.length}\r\nConnection: close\r\n`)),
  'HTTP/1.1 that says nothing of closing': (socket, body) =>
    socket.end(head('1.1', body, `Content-Length: ${body.length}\r\n`)),
};

function head(version: string, body: Buffer, fields: string): Buffer {
  return Buffer.concat([Buffer.from(`HTTP/${version} 200 OK\r\n${fields}\r\n`), body]);
}

async function serve(way: (socket: Socket, body: Buffer) => void): Promise<string> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (request) => {
      const path = /^GET (\S+) /.exec(request.toString('latin1'))![1]!;
      readFile(join(folder, path)).then(
        (body) => way(socket, body),
        () => socket.end('HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n'),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  toEnd.push(() => server.close());
  return `nix+http://127.0.0.1:${(server.address() as AddressInfo).port}${TRUSTED}`;
}

const servePython = async () => `nix+http://${await servedByPython(folder)}${TRUSTED}`;

describe('a mount of a binary cache whose server closes the connection behind every answer', () => {
  const servers: [string, () => Promise<string>][] = [
    ...Object.entries(WAYS).map(([what, way]): [string, () => Promise<string>] => [what, () => serve(way)]),
    ['python3 -m http.server', servePython],
  ];
  test.each(servers)('%s: shows bodies of all sizes', async (_what, begin) => {
    const { dir: mnt, stop } = await mount(['--store', await begin(), '--cache', join(tempDir(), 'cache')]);
    await Promise.all(
      paths.map(async ({ info }, i) => {
        const options = { encoding: 'buffer', maxBuffer: 1 << 25, timeout: 50_000 } as const;
        const { stdout } = await execute('cat', [join(mnt, info.storePath.toString())], options);
        expect(stdout.equals(contents[i]!), `of ${SIZES[i]} bytes`).toBe(true);
      }),
    );
    const { status, log } = await stop();
    expect(status).toBe(0);
    expect(log).not.toContain('fault');
  });
});
