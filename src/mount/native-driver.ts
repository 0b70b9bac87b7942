import { readlinkSync } from 'node:fs';
import type { FreshPayload } from '../fs/fresh-source.ts';
import type { StoreNeed } from '../fs/need.ts';
import { isConnected } from '../fuse/connection.ts';
import { COUNTER } from '../fuse/counters.ts';
import { Fusermount } from '../fuse/fusermount.ts';
import { ALWAYS, NAME } from '../fuse/mount-options.ts';
import { nativeOperations } from '../fuse/native.ts';
import { Unmounting } from '../fuse/unmounting.ts';
import { messageOf, StoreError } from '../util/errors.ts';
import { openDescriptors } from '../util/system/descriptors.ts';
import type { Driver } from './driver.ts';
import { openTree } from './served-tree.ts';
import type { EnteredPath } from './statistics.ts';
import { statisticsOf } from './statistics.ts';

/** How often to look whether the kernel has ended it, in milliseconds: the package does not tell. */
const WATCH_MS = 500;
const FOREVER = 1_000_000;
const DEVICE = '/dev/fuse';

/** The part of the package that is used here; it brings no types. */
type FuseNative = new (
  mountPoint: string,
  operations: object,
  options: object,
) => { mount(callback: (error: Error | null) => void): void };

/** Serves through the fuse-native package, on the main thread. See NATIVE_LIMITS for what it cannot do. */
export const nativeDriver: Driver = async (options, context) => {
  const Fuse = await loadPackage();
  const counters = new Float64Array(COUNTER.LENGTH);
  const entered: EnteredPath[] = [];
  const { fs, accept } = openTree({
    ...context,
    onEntered: (path) => entered.push(path),
    onFileRead() {
      counters[COUNTER.FILES]!++;
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
    counters,
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
  const before = openDescriptors();
  let device: number;
  try {
    await new Promise<void>((resolve, reject) => fuse.mount((error) => (error ? reject(error) : resolve())));
    device = openedDevice(before);
  } catch (error) {
    // It may have mounted all the same, before it failed.
    unmounting.mounted(() => false);
    await unmounting.unmount();
    const what = others.length > 0 ? ` with ${others.join()}` : '';
    throw new StoreError(
      'FAILED_PRECONDITION',
      `libfuse cannot mount on ${context.mountPoint}${what}: ${messageOf(error)}`,
      { cause: error },
    );
  }
  const isThere = () => isDevice(device) && isConnected(device);
  unmounting.mounted(isThere);
  let closed = () => {};
  const ended = new Promise<void>((resolve) => {
    closed = resolve;
  });
  const watch = setInterval(() => {
    if (isThere()) return;
    clearInterval(watch);
    closed();
  }, WATCH_MS);
  return {
    // Whoever forces the unmounting of a busy mount cuts us off, but leaves it standing.
    closed: ended.then(() => unmounting.unmount()),
    async stop() {
      clearInterval(watch);
      await unmounting.unmount();
      closed();
    },
    // The thread that is asked is the one that serves.
    responds: async () => true,
    statistics: () => statisticsOf([{ counters, entered }], context.nodes),
  };
};

/** The descriptor by which the package serves; -1 when it has ended already. `before`: what was open before it mounted. */
function openedDevice(before: ReadonlyMap<number, string>): number {
  const opened = [...openDescriptors()].find(([fd, path]) => path === DEVICE && before.get(fd) !== DEVICE);
  return opened?.[0] ?? -1;
}

/** Whether a descriptor is a device of FUSE. The package closes its own at the end, and the number is free for others. */
function isDevice(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === DEVICE;
  } catch {
    return false;
  }
}

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
