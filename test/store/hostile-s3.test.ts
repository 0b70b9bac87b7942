import type { ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, expect, test } from 'vitest';
import { S3ObjectStore } from '../../src/castore/objects/s3.ts';
import { HTTP_PATIENCE } from '../../src/store/substitute/http-client.ts';
import { S3CacheFiles } from '../../src/store/substitute/s3-files.ts';
import { collect } from '../../src/util/bytes.ts';
import { messageOf } from '../../src/util/errors.ts';

const opened: (() => unknown)[] = [];

afterAll(() => {
  for (const close of opened) close();
});

/** A server that answers everything like this, and a bucket there. */
async function hostile(answer: (response: ServerResponse, count: number, url: string) => void) {
  let count = 0;
  const server = createServer((request, response) => {
    response.on('error', () => {});
    request.resume();
    answer(response, count++, request.url!);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const location = {
    address: 's3://bucket',
    bucket: 'bucket',
    prefix: '',
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    region: 'us-east-1',
    virtualHosted: false,
    credentials: { accessKeyId: 'id', secretAccessKey: 'secret' },
    anonymous: false,
  };
  const patience = { awayMs: 0 };
  const objects = await S3ObjectStore.open(location, patience);
  const files = new S3CacheFiles(location, { ...HTTP_PATIENCE, ...patience });
  opened.push(
    () => server.closeAllConnections(),
    () => server.close(),
    () => objects.close(),
    () => files.close(),
  );
  return { objects, files, asked: () => count };
}

/** Writes for ever, as fast as it is read; gives how much that was. */
function endless(response: ServerResponse, part: string): void {
  const write = () => {
    while (response.writable && response.write(part));
  };
  response.on('drain', write);
  write();
}

const failure = (work: Promise<unknown>) => work.then(() => 'none', messageOf);

const page = (more: string) =>
  `<ListBucketResult><Contents><Key>key</Key><Size>1</Size></Contents><IsTruncated>true</IsTruncated>${more}</ListBucketResult>`;

test.each([
  ['the same', page('<NextContinuationToken>again</NextContinuationToken>')],
  ['no', page('')],
  ['an empty', page('<NextContinuationToken></NextContinuationToken>')],
])('a listing that is to go on at %s place ends', async (_what, body) => {
  const { objects, asked } = await hostile((response) => response.end(body));
  expect(await failure(Array.fromAsync(objects.list('')))).toContain('does not say where it goes on');
  expect(asked()).toBeLessThan(4);
});

test.each(['<html>busy</html>', '<a', 'noise', `${'<a>'.repeat(100_000)}`])(
  'a listing that is none is an error, or empty: %.20s',
  async (body) => {
    const { objects } = await hostile((response) => response.end(body));
    await failure(Array.fromAsync(objects.list('')));
  },
);

test.each([
  ['a listing', 200],
  ['an error', 500],
  ['a refusal', 403],
])('%s without end is left', async (_what, status) => {
  const { objects } = await hostile((response) => {
    response.writeHead(status, { 'content-type': 'application/xml' });
    endless(response, `<Contents><Key>${'x'.repeat(1 << 16)}</Key></Contents>`);
  });
  const before = process.memoryUsage().rss;
  expect(await failure(Array.fromAsync(objects.list('')))).not.toBe('none');
  expect(process.memoryUsage().rss - before).toBeLessThan(300 << 20);
});

test('an object without end, or of another length than is told, is left', async () => {
  const { objects } = await hostile((response) => {
    response.writeHead(200, {});
    endless(response, 'x'.repeat(1 << 16));
  });
  expect(await failure(objects.get('key', 1000))).toContain('more than 1000 bytes');
  const short = await hostile((response) => {
    response.writeHead(200, { 'content-length': 100 });
    response.write('x');
    setImmediate(() => response.destroy());
  });
  expect(await failure(short.objects.get('key', 1000))).not.toBe('none');
});

test.each(['9'.repeat(25), '99999999999', '-1', 'x'])(
  'a part of a cache that is said to be of %s bytes is read no further than it goes',
  async (total) => {
    const { files } = await hostile((response, count) => {
      if (count > 3) return response.writeHead(404).end('<Error><Code>NoSuchKey</Code></Error>');
      response.writeHead(206, { 'content-range': `bytes 0-9/${total}`, etag: '"x"' }).end('0123456789');
    });
    const read = async () =>
      collect((await files.read('a', { signal: AbortSignal.timeout(30_000) }))!, 1 << 20);
    await failure(read());
  },
);
