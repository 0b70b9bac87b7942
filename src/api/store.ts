import { basename, resolve } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { FileNode, Node } from '../castore/node.ts';
import { checkName, type StorePath } from '../nix/store-path.ts';
import { parsePlace, parseStorePath } from '../store/named-path.ts';
import { defaultDirectory } from '../store/open/default-directory.ts';
import { openStore } from '../store/open/open-store.ts';
import type { PathInfo } from '../store/path-info/path-info.ts';
import { fetchDirectory, fileContents, findPathInfo, lookUpPathInfo, resolveNode } from '../store/resolve.ts';
import type { OpenedStore } from '../store/services.ts';
import { asBuffer } from '../util/bytes.ts';
import { invalid, StoreError } from '../util/errors.ts';
import { shownAddress } from '../util/url.ts';
import type { Mount, MountOptions, Server } from './served.ts';
import { serveDaemon, serveMount, serveNarBridge } from './serving.ts';

export interface OpenOptions {
  /** Directory for what is fetched from a store on another machine. Default: that of the commands. */
  readonly cache?: string;
}

export interface ImportOptions {
  /** Name of the store path. Default: the last part of the path. */
  readonly name?: string;
  readonly signal?: AbortSignal;
}

export interface RealiseOptions {
  /** Whether to write what they refer to as well. */
  readonly closure?: boolean;
  readonly signal?: AbortSignal;
}

export interface ReadOptions {
  readonly signal?: AbortSignal;
}

/** An entry of a directory. */
export interface Entry {
  /** The bytes of its name, which need not be UTF-8; `String(name)` is its text. */
  readonly name: Buffer;
  readonly node: Node;
}

/**
 * An opened store. Where a method takes a path, that is `STORE_PATH[/SUB]` as on the command line: with or
 * without `/nix/store/`, or the bare hash of the store path. Failures are `StoreError`s.
 */
export class Store {
  readonly #store: OpenedStore;
  readonly #address: string;
  readonly #cache: string;
  readonly #serving = new Set<() => Promise<void>>();
  #closed: Promise<void> | undefined;

  private constructor(store: OpenedStore, address: string, cache: string) {
    this.#store = store;
    this.#address = address;
    this.#cache = cache;
  }

  /**
   * Opens the store at an address such as `local:///var/lib/tvix-store` or `grpc+http://host:8000`. A local one is
   * made where there is none. Throws INVALID_ARGUMENT for an address that means nothing.
   */
  static async open(address: string, options: OpenOptions = {}): Promise<Store> {
    const cache = resolve(options.cache ?? defaultDirectory('tvix-store-cache'));
    const addresses = { blobs: address, directories: address, pathInfos: address, cacheDir: cache };
    return new Store(await openStore(addresses, 'serve'), address, cache);
  }

  /** Imports a file, directory or link. When this resolves, all of it is on disk, or at the peer. */
  async import(
    path: string,
    { name = basename(resolve(path)), signal }: ImportOptions = {},
  ): Promise<PathInfo> {
    checkName(name);
    const { importStorePath } = await import('../store/moving/import.ts');
    return importStorePath(this.#store, Buffer.from(path), name, signal ? { signal } : {});
  }

  /** The path info of a store path; `undefined` when that is not there. */
  async pathInfo(path: string | StorePath): Promise<PathInfo | undefined> {
    return lookUpPathInfo(this.#store, parseStorePath(String(path)));
  }

  /** All store paths, in any order. Throws UNIMPLEMENTED where that cannot be told, as of a binary cache. */
  pathInfos(): AsyncIterable<PathInfo> {
    return this.#store.pathInfos.list();
  }

  /** The file, directory or link at a path. Throws NOT_FOUND. */
  async stat(path: string): Promise<Node> {
    return (await resolveNode(this.#store, parsePlace(path))).node;
  }

  /** The entries of a directory, by its path or its node, in the order of their names. */
  async list(at: string | Node): Promise<Entry[]> {
    const node = await this.#node(at);
    if (node.kind !== 'directory') throw invalid(`${named(at)} is a ${node.kind}, not a directory`);
    const directory = await fetchDirectory(this.#store, node);
    return Array.from(directory.entries(), ([name, child]) => ({ name: asBuffer(name), node: child }));
  }

  /** All of a file, by its path or its node. */
  async readFile(at: string | Node, options: ReadOptions = {}): Promise<Buffer> {
    return buffer(await fileContents(this.#store, await this.#file(at), options.signal));
  }

  /** A file piece by piece, by its path or its node. Throws DATA_LOSS before a wrong byte is given. */
  async *read(at: string | Node, options: ReadOptions = {}): AsyncGenerator<Uint8Array> {
    yield* await fileContents(this.#store, await this.#file(at), options.signal);
  }

  /**
   * Writes store paths into a directory, which must exist, as real files. What is there already is checked and
   * kept, and never replaced.
   */
  async realise(
    paths: readonly (string | StorePath)[],
    directory: string,
    { closure = false, signal }: RealiseOptions = {},
  ): Promise<void> {
    const { closureIn } = await import('../store/moving/closure.ts');
    const { realise } = await import('../store/moving/realise.ts');
    const infos = await Promise.all(
      paths.map((path) => findPathInfo(this.#store, parseStorePath(String(path)))),
    );
    const all = closure ? await closureIn(this.#store.pathInfos, infos, signal) : infos;
    await realise(this.#store, all, directory, signal ? { signal } : {});
  }

  /**
   * Mounts the store at a directory, which must exist, and serves it until `stop` or `close`. Whoever reads
   * there must be another process: this one would wait for itself.
   */
  async mount(directory: string, options: MountOptions = {}): Promise<Mount> {
    const where = { storeName: shownAddress(this.#address), cacheDir: this.#cache };
    return this.#track(() => serveMount(this.#store, directory, options, where));
  }

  /**
   * Serves the store over gRPC at a listening address such as `[::]:8000` or `/run/store.sock`. Whoever can
   * connect can read everything; putting is for those on this machine.
   */
  async serveDaemon(listenAddress: string): Promise<Server> {
    return this.#track(() => serveDaemon(this.#store, listenAddress));
  }

  /** Serves the store over HTTP as a binary cache of Nix; otherwise as `serveDaemon`. */
  async serveNarBridge(listenAddress: string): Promise<Server> {
    return this.#track(() => serveNarBridge(this.#store, listenAddress));
  }

  /** Ends what is mounted and served, and closes the store. */
  close(): Promise<void> {
    this.#closed ??= (async () => {
      const stopped = await Promise.allSettled([...this.#serving].map((stop) => stop()));
      await this.#store.close();
      for (const one of stopped) if (one.status === 'rejected') throw one.reason;
    })();
    return this.#closed;
  }

  async #node(at: string | Node): Promise<Node> {
    return typeof at === 'string' ? this.stat(at) : at;
  }

  async #file(at: string | Node): Promise<FileNode> {
    const node = await this.#node(at);
    if (node.kind !== 'file') throw invalid(`${named(at)} is a ${node.kind}, not a file`);
    return node;
  }

  /** What is served, and what is only beginning to be, is stopped once, and before the store is closed. */
  async #track<T extends { stop(): Promise<void> }>(serve: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new StoreError('FAILED_PRECONDITION', 'the store is closed');
    const beginning = serve();
    let stopped: Promise<void> | undefined;
    const stop = () => {
      stopped ??= beginning
        .then(
          (served) => served.stop(),
          () => {},
        )
        .finally(() => this.#serving.delete(stop));
      return stopped;
    };
    this.#serving.add(stop);
    try {
      return { ...(await beginning), stop };
    } catch (error) {
      this.#serving.delete(stop);
      throw error;
    }
  }
}

function named(at: string | Node): string {
  return typeof at === 'string' ? at : 'this';
}
