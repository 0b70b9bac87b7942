import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Daemon } from './daemon.ts';
import { importPath, Mount, run } from './processes.ts';
import { S3Server } from './s3.ts';
import type { TreeSize } from './trees.ts';
import { writeManyEntries, writeRandomFile, writeSourceTree } from './trees.ts';

export const LARGE_SIZE = 2 ** 30;
export const MANY = 100_000;
const GUEST_SIZE = 2 ** 28;
/** Readers of the row for a slow line, and the bytes that each reads. */
export const READERS = 200;
export const READER_SIZE = 2 ** 18;
const GUEST_ENTRIES = 1000;

/** A file with NUL-terminated paths, for the clients. */
export interface List {
  readonly file: string;
  readonly length: number;
}

/** The content that is to be stored. */
export interface Source {
  readonly root: string;
}

interface SourceTree extends Source {
  readonly directories: number;
  readonly lists: Readonly<Record<'entries' | 'files' | 'small', List>>;
}

interface LargeFile extends Source {
  readonly file: string;
  readonly list: List;
}

/** The folder of a store, and the name of a tree there. */
export interface Stored {
  readonly store: string;
  readonly name: string;
}

/** Trees of the rows for a store that is far: what is in each. */
const FAR_TREES = {
  /** Files to be read one after another. */
  small: { directories: 2, files: 0, links: 0, small: 400 },
  /** 15 000 entries. */
  wide: { directories: 1_400, files: 13_100, links: 100, small: 400 },
  /** 2 000 files. */
  s3: { directories: 150, files: 1_600, links: 20, small: 400 },
  /** 1 000 directories, 11 500 files. */
  upload: { directories: 1_000, files: 11_100, links: 100, small: 400 },
} satisfies Record<string, TreeSize>;
export type FarTree = keyof typeof FAR_TREES;

/** Flags of `mount` for the columns that have some: the drivers of ours. */
const DRIVER_FLAGS: Record<string, readonly string[]> = {
  'tvix-store': [],
  'fuse-native': ['--driver', 'fuse-native'],
};

/** The temporary folder of a run and what lies in it, each part made when first asked for. */
export class Workspace {
  readonly directory: string;
  readonly against: string | undefined;
  readonly #made = new Map<string, unknown>();
  #folders = 0;
  readonly #outside: string[] = [];

  constructor(parent: string, against: string | undefined) {
    this.directory = mkdtempSync(join(parent, 'tvix-store-bench-'));
    this.against = against;
    // Where commands keep what they fetch, if nothing else is said.
    process.env.TVIX_STORE_CACHE = join(this.directory, 'cache');
  }

  /** The tree on the native file system, and lists of what is in it for the client. */
  tree(): Promise<SourceTree> {
    return this.#sourceTree('tree');
  }

  /** One of `FAR_TREES`, likewise. */
  farTree(name: FarTree): Promise<SourceTree> {
    return this.#sourceTree(name, FAR_TREES[name]);
  }

  #sourceTree(name: string, size?: TreeSize): Promise<SourceTree> {
    return this.#once(name, async () => {
      const root = join(this.directory, 'source', name);
      const content = writeSourceTree(root, size);
      return {
        root,
        directories: content.directories.length,
        lists: {
          entries: this.#list(`${name}-entries`, content.entries),
          files: this.#list(`${name}-files`, content.files),
          small: this.#list(`${name}-small`, content.small),
        },
      };
    });
  }

  /** A folder with one file of 1 GiB. */
  large(): Promise<LargeFile> {
    return this.#once('large', async () => {
      const root = join(this.directory, 'source/large');
      mkdirSync(root, { recursive: true });
      writeRandomFile(join(root, 'file'), LARGE_SIZE);
      return { root, file: join(root, 'file'), list: this.#list('large', ['file']) };
    });
  }

  /** A folder with a file for each of `READERS`. */
  readersTree(): Promise<LargeFile> {
    return this.#once('readers', async () => {
      const root = join(this.directory, 'source/readers');
      mkdirSync(root, { recursive: true });
      const names = Array.from({ length: READERS }, (_, i) => `file-${i}`);
      for (const [i, name] of names.entries()) writeRandomFile(join(root, name), READER_SIZE, i);
      return { root, file: join(root, names[0]!), list: this.#list('readers', names) };
    });
  }

  /** A store with one folder of `MANY` empty files; `native` is the folder itself. */
  flatStore(): Promise<Stored & { native: string }> {
    return this.#once('flat store', async () => {
      const native = join(this.directory, 'source/flat');
      mkdirSync(native, { recursive: true });
      for (let i = 0; i < MANY; i++) writeFileSync(join(native, `file-${i}`), '');
      const store = this.freshFolder();
      return { native, store, name: await importPath(store, native) };
    });
  }

  /** A tree for a guest: a large file, and a folder of small ones. */
  guestTree(): Promise<Source & { size: number }> {
    return this.#once('guest', async () => {
      const root = join(this.directory, 'source/guest/tree');
      mkdirSync(join(root, 'many'), { recursive: true });
      writeRandomFile(join(root, 'large'), GUEST_SIZE);
      for (let i = 0; i < GUEST_ENTRIES; i++) writeFileSync(join(root, `many/file-${i}`), `file ${i}\n`);
      return { root, size: GUEST_SIZE };
    });
  }

  /** A store with the tree; `name` is its name there. */
  treeStore(): Promise<Stored> {
    return this.#once('tree store', async () => {
      const store = this.freshFolder();
      return { store, name: await importPath(store, (await this.tree()).root) };
    });
  }

  largeStore(): Promise<Stored> {
    return this.#once('large store', async () => {
      const store = this.freshFolder();
      return { store, name: await importPath(store, (await this.large()).root) };
    });
  }

  /** A store with two trees of `MANY` entries each. */
  manyStore(): Promise<{ store: string; names: readonly string[] }> {
    return this.#once('many store', async () => {
      const store = this.freshFolder();
      const names: string[] = [];
      for (const part of ['first', 'second']) {
        const root = join(this.directory, 'many', part);
        writeManyEntries(root, MANY);
        names.push(await importPath(store, root));
      }
      return { store, names };
    });
  }

  /** The store that `daemon` serves, with a tree of `FAR_TREES`, the large file or those of `READERS` in it. */
  async farStore(name: FarTree | 'large' | 'readers'): Promise<Stored> {
    const store = await this.#once('far store', async () => this.freshFolder());
    const { root } = await this.#farSource(name);
    return { store, name: await this.#once(`far ${name}`, () => importPath(store, root)) };
  }

  #farSource(name: FarTree | 'large' | 'readers'): Promise<Source> {
    if (name === 'large') return this.large();
    return name === 'readers' ? this.readersTree() : this.farTree(name);
  }

  /** The address by which a column reaches a tree of `FAR_TREES` or the large file. */
  async farAddress(column: string, name: FarTree | 'large'): Promise<string> {
    if (column !== 'S3') return (await this.daemon(column)).store;
    const server = await this.s3();
    const store = await this.#once('S3 store', async () => server.freshStore());
    const { root } = await this.#farSource(name);
    await this.#once(`S3 ${name}`, () => importPath(store, root));
    return store;
  }

  s3(): Promise<S3Server> {
    return this.#once('S3', () => S3Server.start(this.freshFolder()));
  }

  /** A daemon that serves the far store over TCP or a unix socket until the end. */
  async daemon(transport: string): Promise<Daemon> {
    const { store } = await this.farStore('small');
    return this.#once(`daemon ${transport}`, async () => {
      const daemon = await this.freshDaemon(transport, store);
      const { root, lists } = await this.farTree('small');
      // What serves each round is not to be slower in the first.
      await daemon.client('read', { root, list: lists.small.file });
      return daemon;
    });
  }

  freshDaemon(transport: string, store: string): Promise<Daemon> {
    const address = transport === 'TCP' ? '127.0.0.1:0' : `${this.freshFolder()}/socket`;
    return Daemon.start(store, address);
  }

  /** The root of the tree in a column, mounted once for all warm rows. */
  async warmRoot(column: string): Promise<string> {
    if (column === 'native') return (await this.tree()).root;
    if (column === 'against') return this.against!;
    const { store, name } = await this.treeStore();
    const mount = await this.#once(`mount ${column}`, () => this.mount(column, store));
    return join(mount.point, name);
  }

  mount(column: string, store: string, flags: readonly string[] = []): Promise<Mount> {
    return Mount.start(store, this.freshFolder(), [...(DRIVER_FLAGS[column] ?? []), ...flags]);
  }

  /** A new empty folder. It stays until the end: ext4 creates files slowly after many deletions. */
  freshFolder(): string {
    const folder = join(this.directory, String(this.#folders++));
    mkdirSync(folder);
    return folder;
  }

  /** What `make` makes in a folder in memory, when it is first asked for; it stays until the end. */
  inMemory<T>(name: string, make: (folder: string) => Promise<T>): Promise<T> {
    return this.#once(name, () => make(this.#memoryFolder()));
  }

  #memoryFolder(): string {
    const folder = mkdtempSync('/dev/shm/tvix-store-bench-');
    this.#outside.push(folder);
    return folder;
  }

  /** Runs `use` with a folder in memory and frees it at once. */
  async withMemoryFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
    const folder = this.#memoryFolder();
    try {
      return await use(folder);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  /** Waits until the disk is at rest. */
  settle(): Promise<string> {
    return run('sync', ['-f', this.directory]);
  }

  /** Everything is unmounted before. */
  async remove(): Promise<void> {
    const s3 = this.#made.get('S3') as Promise<S3Server> | undefined;
    (await s3?.catch(() => undefined))?.stop();
    for (const folder of [this.directory, ...this.#outside]) rmSync(folder, { recursive: true, force: true });
  }

  #list(name: string, paths: readonly string[]): List {
    const file = join(this.directory, `${name}.list`);
    writeFileSync(file, paths.map((path) => `${path}\0`).join(''));
    return { file, length: paths.length };
  }

  #once<T>(name: string, make: () => Promise<T>): Promise<T> {
    if (!this.#made.has(name)) this.#made.set(name, make());
    return this.#made.get(name) as Promise<T>;
  }
}
