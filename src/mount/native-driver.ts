import { PinWriter } from '../castore/local/pins.ts';
import type { FreshPayload } from '../fs/fresh-source.ts';
import { FreshSource } from '../fs/fresh-source.ts';
import type { StoreNeed } from '../fs/need.ts';
import { NodeTable } from '../fs/node-table.ts';
import { NotingSource } from '../fs/noting-source.ts';
import { LocalSource } from '../fs/source.ts';
import { StoreFileSystem } from '../fs/store-file-system.ts';
import { isMounted, unmountPath } from '../fuse/mounting.ts';
import type { NativeCounts } from '../fuse/native.ts';
import { nativeOperations } from '../fuse/native.ts';
import { messageOf, StoreError } from '../util/errors.ts';
import type { Driver } from './driver.ts';
import type { EnteredPath } from './statistics.ts';
import { enteredPath } from './statistics.ts';

/** How often to look whether somebody has unmounted, in milliseconds: the package does not tell. */
const WATCH_MS = 500;
const FOREVER = 1_000_000;

/** What this program uses of the package, which brings no types. */
type FuseNative = new (
  mountPoint: string,
  operations: object,
  options: object,
) => { mount(callback: (error: Error | null) => void): void };

/** Serves through the fuse-native package, on the main thread. See NATIVE_LIMITS for what it cannot do. */
export const nativeDriver: Driver = async (options, context) => {
  const Fuse = await loadPackage();
  const counts: NativeCounts = { requests: 0, misses: 0, bytesRead: 0, filesRead: 0 };
  const entered = new Map<string, EnteredPath>();
  const local = new LocalSource(context.env);
  const source = new FreshSource(context.onUsed ? new NotingSource(local, context.onUsed) : local);
  const pins = context.pinPath === undefined ? undefined : new PinWriter(context.pinPath);
  const fs = new StoreFileSystem(source, new NodeTable(context.nodes, pins), {
    remote: context.remote,
    storeDir: context.env.dir,
    witness: {
      entered: (info) => entered.set(String(info.storePath), enteredPath(info)),
      readFile: () => {
        counts.filesRead++;
      },
    },
  });
  context.handOver.add({
    send: (message) => {
      if (message.type !== 'payload') return;
      source.accept(message.payload as FreshPayload);
      for (const blob of (message.payload as FreshPayload).revoked ?? []) fs.revoke(blob);
    },
  });
  const never = new AbortController().signal;
  const operations = nativeOperations(
    fs,
    { ...options, fetch: (need) => context.handOver.meet(need as StoreNeed, never) },
    counts,
  );
  const fuse = new Fuse(context.mountPoint, operations, {
    // The package has no words for these; what it is given it joins by commas.
    fsname: 'tvix-store,ro,nosuid,nodev,use_ino',
    subtype: 'tvix-store',
    allowOther: options.allowOther,
    defaultPermissions: true,
    kernelCache: true,
    entryTimeout: FOREVER,
    attrTimeout: FOREVER,
    timeout: false,
  });
  await new Promise<void>((resolve, reject) => fuse.mount((error) => (error ? reject(error) : resolve())));

  let closed = () => {};
  const ended = new Promise<void>((resolve) => {
    closed = resolve;
  });
  const watch = setInterval(() => {
    if (isMounted(context.mountPoint)) return;
    clearInterval(watch);
    closed();
  }, WATCH_MS);
  return {
    closed: ended,
    async stop() {
      clearInterval(watch);
      unmountPath(context.mountPoint);
      closed();
    },
    statistics: () => ({
      requests: new Map([[0, counts.requests]]),
      misses: counts.misses,
      bytesRead: counts.bytesRead,
      filesRead: counts.filesRead,
      entered: [...entered.values()],
      nodes: new NodeTable(context.nodes).size,
    }),
  };
};

async function loadPackage(): Promise<FuseNative> {
  try {
    const name: string = 'fuse-native';
    return (await import(name)).default as FuseNative;
  } catch (error) {
    throw new StoreError(
      'FAILED_PRECONDITION',
      `--driver fuse-native needs the npm package "fuse-native" and the system's libfuse2: ${messageOf(error)}`,
      { cause: error },
    );
  }
}
