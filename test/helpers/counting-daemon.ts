import { join } from 'node:path';
import type { Digest } from '../../src/castore/digest.ts';
import { EMPTY_DIGEST } from '../../src/castore/digest.ts';
import { AccessRule } from '../../src/server/access/rule.ts';
import { serveGrpc } from '../../src/server/grpc/server.ts';
import { localStore } from './services.ts';
import { counted, except } from './services-that.ts';
import { tempDir } from './temp.ts';

/** A daemon in this process over a local store, and what it was asked for. */
export interface CountingDaemon {
  readonly url: string;
  /** Digests of the directories, one for each question; a closure counts as one. */
  readonly directories: readonly string[];
  /** How often each method of blobs was called. */
  readonly blobs: Readonly<Record<string, number>>;
  stop(): Promise<void>;
}

export async function countingDaemon(dir: string): Promise<CountingDaemon> {
  const store = localStore(dir);
  const blobs = counted(store.blobs);
  const asked: string[] = [];
  const note = (digest: Digest) => {
    // By asking for nothing a client learns which dialect is spoken.
    if (!digest.equals(EMPTY_DIGEST)) asked.push(digest.hex);
  };
  const directories = except(store.directories, {
    get(digest, signal) {
      note(digest);
      return store.directories.get(digest, signal);
    },
    getRecursive(digest, signal) {
      note(digest);
      return store.directories.getRecursive(digest, signal);
    },
  });
  const socket = join(tempDir(), 'socket');
  const server = await serveGrpc({
    store: { ...store, local: undefined, blobs: blobs.service, directories },
    listen: { kind: 'unix', path: socket },
    ownership: {},
    access: new AccessRule({ tokens: undefined, anonymous: false, readOnly: true }),
  });
  return {
    url: `grpc+unix://${socket}`,
    directories: asked,
    blobs: blobs.calls,
    async stop() {
      await server.stop(AbortSignal.abort());
      await store.close();
    },
  };
}
