import type { FreshPayload } from '../fs/fresh-source.ts';
import type { StoreNeed } from '../fs/need.ts';
import { NodeTable } from '../fs/node-table.ts';
import { Fusermount } from '../fuse/fusermount.ts';
import { ALWAYS, NAME } from '../fuse/mount-options.ts';
import { isMounted } from '../fuse/mount-table.ts';
import type { NativeCounts } from '../fuse/native.ts';
import { nativeOperations } from '../fuse/native.ts';
import { Unmounting } from '../fuse/unmounting.ts';
import { messageOf, StoreError } from '../util/errors.ts';
import type { Driver } from './driver.ts';
import { openTree } from './served-tree.ts';
import type { EnteredPath } from './statistics.ts';

/** How often to look whether somebody has unmounted, in milliseconds: the package does not tell. */
const WATCH_MS = 500;
const FOREVER = 1_000_000;

/** The part of the package that is used here; it brings no types. */
type FuseNative = new (
  mountPoint: string,
  operations: object,
  options: object,
) => { mount(callback: (error: Error | null) => void): void };

/** Serves through the fuse-native package, on the main thread. See NATIVE_LIMITS for what it cannot do. */
export const nativeDriver: Driver = async (options, context) => {
  const Fuse = await loadPackage();
  const counts: NativeCounts = { requests: new Map(), misses: 0, bytesRead: 0, filesRead: 0 };
  const entered: EnteredPath[] = [];
  const { fs, accept } = openTree({
    ...context,
    onEntered: (path) => entered.push(path),
    onFileRead() {
      counts.filesRead++;
    },
  });
  context.handOver.add({
    send(message) {
      if (message.type === 'payload') accept(message.payload as FreshPayload);
    },
  });
  const never = new AbortController().signal;
  const operations = nativeOperations(
    fs,
    { ...options, fetch: (need) => context.handOver.meet(need as StoreNeed, never) },
    counts,
  );
  const { source, others } = options.mountOptions;
  const fuse = new Fuse(context.mountPoint, operations, {
    // The package has no options for these, but joins what it is given by commas.
    fsname: [source.replace(/[\\,]/g, '\\$&'), ...ALWAYS, 'use_ino', ...others].join(),
    subtype: NAME,
    kernelCache: true,
    entryTimeout: FOREVER,
    attrTimeout: FOREVER,
    timeout: false,
  });
  const helper = process.geteuid!() === 0 ? undefined : await Fusermount.find().catch(() => undefined);
  const unmounting = new Unmounting(context.mountPoint, helper);
  try {
    await new Promise<void>((resolve, reject) => fuse.mount((error) => (error ? reject(error) : resolve())));
    unmounting.mounted();
  } catch (error) {
    await unmounting.unmount();
    throw error;
  }
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
      await unmounting.unmount();
      closed();
    },
    statistics: () => ({
      requests: counts.requests,
      misses: counts.misses,
      bytesRead: counts.bytesRead,
      filesRead: counts.filesRead,
      entered,
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
