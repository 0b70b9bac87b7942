import { openSync } from 'node:fs';
import { NodeTable } from '../fs/node-table.ts';
import { negotiate } from '../fuse/init.ts';
import type { Mounted } from '../fuse/mounting.ts';
import { mountDevice, raiseReadAhead } from '../fuse/mounting.ts';
import { invalidateNode } from '../fuse/notify.ts';
import { StoreError } from '../util/errors.ts';
import { errno, errnoName, libc, setNonBlocking } from '../util/system/libc.ts';
import type { Driver } from './driver.ts';
import type { Server } from './hand-over.ts';
import { watchRoot } from './root-watch.ts';
import { ServingThread, statisticsOf } from './serving-thread.ts';

const FUSE_DEV_IOC_CLONE = 0x8004e500;

/** Speaks the kernel's own protocol on `/dev/fuse`, in threads of its own. */
export const kernelDriver: Driver = async (options, context) => {
  const threads = await Promise.all(
    Array.from({ length: options.readers }, () => ServingThread.start('device', options, context)),
  );
  const stopThreads = () => Promise.all(threads.map((thread) => thread.stop()));
  let mounted: Mounted | undefined;
  try {
    mounted = mountDevice(context.mountPoint, options);
    negotiate(mounted.fd);
    raiseReadAhead(context.mountPoint);
    for (const [i, thread] of threads.entries()) {
      const fd = i === 0 ? mounted.fd : cloneDevice(mounted.fd);
      setNonBlocking(fd);
      thread.serve(fd, context);
    }
    context.handOver.add(revoker(mounted.fd, new NodeTable(context.nodes)));
  } catch (error) {
    mounted?.unmount();
    await stopThreads();
    throw error;
  }
  const { fd, unmount } = mounted;
  const watch = options.listRoot ? watchRoot(context.env, fd) : undefined;
  return {
    closed: Promise.all(threads.map((thread) => thread.ended)).then(() => {
      watch?.close();
      // Whoever forces the unmounting of a busy mount cuts us off, but leaves it standing.
      unmount();
    }),
    async stop() {
      unmount();
      await stopThreads();
    },
    statistics: () => statisticsOf(threads, context),
  };
};

/** Takes part in the hand-over only to make the kernel forget what turned out to be wrong. */
function revoker(fd: number, nodes: NodeTable): Server {
  return {
    send: () => {},
    revoke: (blob) => {
      for (const id of nodes.filesOf(blob)) invalidateNode(fd, id);
    },
  };
}

/** Another descriptor of the same mount, with a queue of its own for what it has taken. */
function cloneDevice(fd: number): number {
  const clone = openSync('/dev/fuse', 'r+');
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(fd);
  if (libc.ioctl(clone, FUSE_DEV_IOC_CLONE, argument) !== 0) {
    throw new StoreError('INTERNAL', `cannot add a reader: ${errnoName(errno())}`);
  }
  return clone;
}
