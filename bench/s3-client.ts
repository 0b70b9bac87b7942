/**
 * One user of a bucket, in a process of its own.
 *
 *   s3-client.ts bare '{"endpoint", "bucket", "root", "list"}'
 *
 * puts the files of `list` as objects and gets them, with nothing of ours nor of AWS: plain HTTP to a bucket that
 * everybody may write to. Prints the objects a second of both, as `put` and `get`.
 *
 *   s3-client.ts back '{"store", "name", "cache"}'
 *
 * reads all files of a store path, checked, into memory. Prints files a second, as `get`.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Pool } from 'undici';
import type { BlobService } from '#built/castore/blob/service.js';
import type { FileNode } from '#built/castore/node.js';
import { StorePath } from '#built/nix/store-path.js';
import { openStore } from '#built/store/open/open-store.js';
import { mapAhead } from '#built/util/async/iterables.js';

type Order = Readonly<Record<'endpoint' | 'bucket' | 'root' | 'list' | 'store' | 'name' | 'cache', string>>;

const IN_FLIGHT = 64;
const [operation, order] = process.argv.slice(2) as [keyof typeof operations, string];
const operations = { bare, back };
console.log(JSON.stringify(await operations[operation](JSON.parse(order))));

async function bare({ endpoint, bucket, root, list }: Order): Promise<object> {
  const files = readFileSync(list, 'utf8').split('\0').filter(Boolean);
  const contents = files.map((file) => readFileSync(join(root, file)));
  const pool = new Pool(endpoint, { connections: IN_FLIGHT });
  const place = `/${bucket}/${process.pid}`;
  const request = async (method: 'GET' | 'PUT', i: number, extra: object = {}) => {
    const { statusCode, body } = await pool.request({ method, path: `${place}/${i}`, ...extra });
    await body.arrayBuffer();
    if (statusCode !== 200) throw new Error(`${method}: ${statusCode}`);
  };
  const put = await rate(contents, (bytes, i) =>
    request('PUT', i, { body: bytes, headers: { 'if-none-match': '*' } }),
  );
  const get = await rate(contents, (_, i) => request('GET', i));
  await pool.close();
  return { put, get };
}

async function back({ store: address, name, cache }: Order): Promise<object> {
  const store = await openStore(
    { blobs: address, directories: address, pathInfos: address, cacheDir: cache },
    'read',
  );
  const begun = performance.now();
  const info = await store.pathInfos.get(StorePath.parse(name).hash);
  const files: FileNode[] = [];
  if (info?.node.kind !== 'directory') throw new Error(`${name} is no directory`);
  for await (const directory of store.directories.getRecursive(info.node.digest)) {
    for (const [, node] of directory.entries()) if (node.kind === 'file') files.push(node);
  }
  for await (const _ of mapAhead(files, IN_FLIGHT, (file) => read(store.blobs, file)));
  const seconds = (performance.now() - begun) / 1e3;
  await store.close();
  return { get: files.length / seconds };
}

async function read(blobs: BlobService, { digest, size }: FileNode): Promise<void> {
  for await (const _ of (await blobs.read(digest, { size: Number(size) }))!);
}

async function rate<T>(items: readonly T[], work: (item: T, i: number) => Promise<void>): Promise<number> {
  const begun = performance.now();
  for await (const _ of mapAhead(items.entries(), IN_FLIGHT, ([i, item]) => work(item, i)));
  return items.length / ((performance.now() - begun) / 1e3);
}
