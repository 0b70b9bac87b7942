import type { StartAhead } from '../castore/local/ahead/hashed-ahead.ts';
import type { Environment } from '../castore/local/environment.ts';
import { PinWriter } from '../castore/local/pins.ts';
import { BelievedSource } from '../fs/believed-source.ts';
import type { FreshPayload } from '../fs/fresh-source.ts';
import { FreshSource } from '../fs/fresh-source.ts';
import { NodeTable } from '../fs/node-table.ts';
import { NotingSource } from '../fs/noting-source.ts';
import { ReadLog } from '../fs/read-log.ts';
import type { Source } from '../fs/source.ts';
import { LocalSource } from '../fs/source.ts';
import type { InodeBits } from '../fs/store-file-system.ts';
import { StoreFileSystem } from '../fs/store-file-system.ts';
import type { EnteredPath } from './statistics.ts';
import { enteredPath } from './statistics.ts';

export interface ServedTreeOptions {
  readonly env: Environment;
  /** See `ServeContext`. */
  readonly usageDir: string;
  /** Memory of the node table, which all that serve the same mount share. */
  readonly nodes: SharedArrayBuffer;
  /** Where to pin store paths, if anybody might delete them. */
  readonly pinPath: string | undefined;
  readonly inodeBits?: InodeBits | undefined;
  /** Whether what is not local can be fetched. */
  readonly remote: boolean;
  /** Whose signatures count, printed, if the local store is a cache of what others may have made. */
  readonly trustedKeys: readonly string[] | undefined;
  /** Starts a thread that hashes chunks before they are read; without it, that is done when they are. */
  readonly startAhead?: StartAhead | undefined;
  /** Hears now and then what was read, by digests with one character a byte. */
  readonly onUsed: ((digests: readonly string[]) => void) | undefined;
  /** Memory of the log of what is read, if anybody takes note of it. */
  readonly readLog: SharedArrayBuffer | undefined;
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
  const { env, pinPath, onUsed, startAhead, trustedKeys, remote } = options;
  const kept = new LocalSource(env, { startAhead });
  const local = trustedKeys ? new BelievedSource(kept, { env, trustedKeys, remote }) : kept;
  const source = new FreshSource(onUsed ? new NotingSource(local, onUsed) : local);
  const pins = pinPath === undefined ? undefined : new PinWriter(pinPath);
  const entered = new Set<string>();
  const fs = new StoreFileSystem(source, new NodeTable(options.nodes, pins), {
    remote: options.remote,
    inodeBits: options.inodeBits,
    storeDir: options.usageDir,
    readLog: options.readLog && new ReadLog(options.readLog),
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
      for (const { kind, key, isProvenInParts } of payload.items ?? [])
        if (kind === 'manifest') fs.admit(key, isProvenInParts);
      for (const { kind, key } of payload.settled ?? []) if (kind === 'manifest') fs.settled(key);
      if (payload.proven) fs.takeProof(payload.proven.digest, payload.proven.groups);
      for (const blob of payload.revoked ?? []) fs.revoke(blob);
      if (payload.indexed) fs.takeIndex(payload.indexed.digest, payload.indexed.index);
    },
  };
}
