import { constants, openSync } from 'node:fs';
import type { Environment } from '../castore/local/environment.ts';
import { PinWriter } from '../castore/local/pins.ts';
import type { FreshPayload } from '../fs/fresh-source.ts';
import { FreshSource } from '../fs/fresh-source.ts';
import { NodeTable } from '../fs/node-table.ts';
import { NotingSource } from '../fs/noting-source.ts';
import type { Source } from '../fs/source.ts';
import { LocalSource } from '../fs/source.ts';
import type { InodeBits } from '../fs/store-file-system.ts';
import { StoreFileSystem } from '../fs/store-file-system.ts';
import type { EnteredPath } from './statistics.ts';
import { enteredPath } from './statistics.ts';

export interface ServedTreeOptions {
  readonly env: Environment;
  /** Memory of the node table, which all that serve the same mount share. */
  readonly nodes: SharedArrayBuffer;
  /** Where to pin store paths, if anybody might delete them. */
  readonly pinPath: string | undefined;
  readonly inodeBits?: InodeBits | undefined;
  /** Whether what is not local can be fetched. */
  readonly remote: boolean;
  /** Hears now and then what was read, by digests with one character a byte. */
  readonly onUsed: ((digests: readonly string[]) => void) | undefined;
  /** Hears of a store path when it is looked into for the first time. */
  readonly onEntered: (path: EnteredPath) => void;
  /** Hears of each file when it is read for the first time. */
  readonly onFileRead: () => void;
}

/** The tree that a kernel is served, whatever the driver: the local store, and what has just been fetched. */
export interface ServedTree {
  readonly fs: StoreFileSystem;
  readonly source: Source;
  /** Takes what the fetch side sends. */
  accept(payload: FreshPayload): void;
}

export function openTree(options: ServedTreeOptions): ServedTree {
  const { env, pinPath, onUsed } = options;
  const local = new LocalSource(env);
  const source = new FreshSource(onUsed ? new NotingSource(local, onUsed) : local);
  const pins = pinPath === undefined ? undefined : new PinWriter(pinPath);
  const entered = new Set<string>();
  const fs = new StoreFileSystem(source, new NodeTable(options.nodes, pins), {
    remote: options.remote,
    inodeBits: options.inodeBits,
    // By a descriptor: its name may come to lead elsewhere, even into what is served.
    storeDir: `/proc/self/fd/${openSync(env.dir, constants.O_RDONLY | constants.O_DIRECTORY)}`,
    witness: {
      entered(info) {
        const path = enteredPath(info);
        if (entered.has(path.name)) return;
        entered.add(path.name);
        options.onEntered(path);
      },
      readFile: options.onFileRead,
    },
  });
  return {
    fs,
    source,
    accept(payload) {
      source.accept(payload);
      for (const { kind, key } of payload.items ?? []) if (kind === 'manifest') fs.admit(key);
      for (const blob of payload.revoked ?? []) fs.revoke(blob);
      if (payload.indexed) fs.takeIndex(payload.indexed.digest, payload.indexed.index);
    },
  };
}
