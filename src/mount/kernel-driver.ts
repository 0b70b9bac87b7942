import { closeSync } from 'node:fs';
import { ROOT_ID } from '../fs/file-system.ts';
import { NodeTable } from '../fs/node-table.ts';
import { negotiate } from '../fuse/init.ts';
import type { Mounted } from '../fuse/mounting.ts';
import { mountDevice, raiseReadAhead } from '../fuse/mounting.ts';
import { invalidateNode } from '../fuse/notify.ts';
import type { Driver } from './driver.ts';
import type { Server } from './hand-over.ts';
import { Readers } from './readers.ts';
import { watchRoot } from './root-watch.ts';
import { allRespond, ServingThread } from './serving-thread.ts';
import { statisticsOf } from './statistics.ts';

/** Speaks the kernel's own protocol on `/dev/fuse`, in threads of its own. */
export const kernelDriver: Driver = async (options, context) => {
  let mounted: Mounted | undefined;
  const watch = options.listRoot
    ? watchRoot(context.env, () => mounted && invalidateNode(mounted.fd, ROOT_ID))
    : undefined;
  const start = () => ServingThread.start('device', { ...options, notifies: watch !== undefined }, context);
  const threads = await Promise.all(Array.from({ length: options.readers }, start));
  let readers: Readers;
  try {
    mounted = await mountDevice(context.mountPoint, options.mountOptions);
    negotiate(mounted.fd);
    raiseReadAhead(context.mountPoint);
    readers = new Readers(mounted.fd, threads, start, context);
  } catch (error) {
    watch?.close();
    await mounted?.unmount();
    await Promise.all(threads.map((thread) => thread.stop()));
    throw error;
  }
  const { fd, unmount } = mounted;
  const revoker = revokerOn(fd, new NodeTable(context.nodes));
  context.handOver.add(revoker);
  return {
    closed: readers.closed.finally(async () => {
      watch?.close();
      context.handOver.remove(revoker);
      // Whoever forces the unmounting of a busy mount cuts us off, but leaves it standing.
      await unmount();
      // Who still waits for it gets an error.
      closeSync(fd);
    }),
    async stop() {
      await unmount();
      await readers.stop();
    },
    responds: (withinMs) => allRespond(readers.threads, withinMs),
    statistics: () => statisticsOf(readers.threads, context.nodes),
  };
};

/** Takes part in the hand-over only to make the kernel forget what turned out to be wrong. */
function revokerOn(fd: number, nodes: NodeTable): Server {
  return {
    send: () => {},
    revoke: (blob) => {
      for (const id of nodes.filesOf(blob)) invalidateNode(fd, id);
    },
  };
}
