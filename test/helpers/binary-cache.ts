import type { IncomingHttpHeaders, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { Hash } from '../../src/nix/hash.ts';
import { SecretKey } from '../../src/nix/key.ts';
import { NarWriter } from '../../src/nix/nar/writer.ts';
import type { NarInfoValues } from '../../src/nix/narinfo/narinfo.ts';
import { NarInfo } from '../../src/nix/narinfo/narinfo.ts';
import { StorePath } from '../../src/nix/store-path.ts';
import { openStore } from '../../src/store/open/open-store.ts';
import type { Store } from '../../src/store/services.ts';
import { compareBytes } from '../../src/util/bytes.ts';
import { randomBytes } from './random.ts';
import { BufferSink, sha256 } from './services.ts';
import { tempDir } from './temp.ts';
import type { Tree } from './trees.ts';
import { directory, file } from './trees.ts';

/** The key that signs what honest caches have. */
export const KEY = SecretKey.generate('test-1');
/** Parameter of an address that trusts it. */
export const TRUSTED = `?trusted-public-keys=${encodeURIComponent(KEY.publicKey.toString())}`;

export function narOf(tree: Tree): Buffer {
  const sink = new BufferSink();
  const nar = new NarWriter(sink);
  const visit = (node: Tree) => {
    if (node.kind === 'symlink') return nar.symlink(Buffer.from(node.target, 'latin1'));
    if (node.kind === 'file') {
      nar.beginFile(node.contents.length, node.executable);
      nar.contents(node.contents);
      return nar.endFile();
    }
    const entries = Object.entries(node.entries).map(
      ([name, child]) => [Buffer.from(name, 'latin1'), child] as const,
    );
    nar.beginDirectory();
    for (const [name, child] of entries.sort(([a], [b]) => compareBytes(a, b))) {
      nar.beginEntry(name);
      visit(child);
      nar.endEntry();
    }
    nar.endDirectory();
  };
  visit(tree);
  nar.finish();
  return sink.bytes();
}

/** A store path as a cache has it. */
export interface TestPath {
  readonly info: NarInfo;
  /** What lies behind its URL. */
  readonly file: Uint8Array;
}

export interface PathOptions {
  readonly tree?: Tree;
  readonly references?: readonly TestPath[];
  readonly compression?: string;
  readonly compress?: (nar: Buffer) => Uint8Array;
  /** Without one, it is not signed. */
  readonly key?: SecretKey | undefined;
  /** What the narinfo says instead of the truth; it is signed all the same. */
  readonly lies?: Partial<NarInfoValues>;
}

/** A store path with these contents, signed. */
export function testPath(name: string, options: PathOptions = {}): TestPath {
  const { tree = directory({ file: file(`contents of ${name}`) }), compress = (nar) => nar } = options;
  const nar = narOf(tree);
  const packed = compress(nar);
  const values: NarInfoValues = {
    storePath: StorePath.of(randomBytes(20, name), name),
    url: `nar/${name}.nar`,
    compression: options.compression ?? 'none',
    fileHash: Hash.of('sha256', sha256(packed)),
    fileSize: BigInt(packed.length),
    narSha256: sha256(nar),
    narSize: BigInt(nar.length),
    references: (options.references ?? []).map(({ info }) => info.storePath),
    signatures: [],
    ...options.lies,
  };
  const key = 'key' in options ? options.key : KEY;
  return { info: NarInfo.of({ ...values, signatures: key ? [key.sign(values)] : [] }), file: packed };
}

export interface Request {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

/** Answers a request in another way; gives false to leave it to the server. */
export type Twist = (request: Request, response: ServerResponse, count: number) => unknown;

const servers = new Set<Server>();

afterAll(() => {
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
});

/** A binary cache on a port of its own, honest but for what the test twists. It ends with the test file. */
export class CacheServer {
  readonly requests: Request[] = [];
  readonly files = new Map<string, Uint8Array | string>();
  /** By path: how to answer instead. `count` is how often that path was asked for before. */
  readonly twists = new Map<string, Twist>();
  #port = 0;
  #server: Server | undefined;

  static async start(paths: readonly TestPath[] = [], cacheInfo = ''): Promise<CacheServer> {
    const cache = new CacheServer();
    cache.files.set('/nix-cache-info', `StoreDir: /nix/store\n${cacheInfo}`);
    for (const path of paths) cache.add(path);
    const server = createServer((request, response) =>
      cache.#answer(request.url!, request.headers, response),
    );
    servers.add(server);
    cache.#server = server;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    cache.#port = (server.address() as AddressInfo).port;
    return cache;
  }

  /** Ends it before the test file does. */
  stop(): void {
    this.#server!.close();
    this.#server!.closeAllConnections();
  }

  add({ info, file: contents }: TestPath): void {
    this.files.set(`/${info.storePath.hashText}.narinfo`, info.toString());
    this.files.set(`/${info.url}`, contents);
  }

  get origin(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get address(): string {
    return `nix+${this.origin}${TRUSTED}`;
  }

  /** How often paths that begin like this were asked for. */
  asked(prefix: string): number {
    return this.requests.filter(({ path }) => path.startsWith(prefix)).length;
  }

  #answer(path: string, headers: IncomingHttpHeaders, response: ServerResponse): void {
    const request = { path, headers };
    const count = this.requests.filter((one) => one.path === path).length;
    this.requests.push(request);
    const twist = this.twists.get(path);
    if (twist && twist(request, response, count) !== false) return;
    const contents = this.files.get(path);
    if (contents === undefined) response.writeHead(404).end('nothing');
    else sendFile(request, response, Buffer.from(contents));
  }
}

/** Sends a file, or the rest of it, as static servers do. */
export function sendFile({ headers }: Request, response: ServerResponse, contents: Buffer): void {
  const start = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
  response.setHeader('accept-ranges', 'bytes');
  response.setHeader('content-length', contents.length - start);
  if (headers.range) {
    response.setHeader('content-range', `bytes ${start}-${contents.length - 1}/${contents.length}`);
    response.statusCode = 206;
  }
  response.end(contents.subarray(start));
}

const stores: Store[] = [];

afterAll(async () => {
  for (const store of stores) await store.close();
});

/** Opens the store at an address, with a cache of its own; it is closed when the test file is done. */
export async function openCached(address: string, cacheDir = join(tempDir(), 'cache')): Promise<Store> {
  const store = await openStore(
    { blobs: address, directories: address, pathInfos: address, cacheDir },
    'read',
  );
  stores.push(store);
  return store;
}
