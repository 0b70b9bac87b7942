import { messageOf, StoreError } from '../util/errors.ts';
import type { SocketOwnership, UnixAddress } from '../util/listen-address.ts';
import { listenUnix } from '../util/system/unix-socket.ts';
import type { ServedStore, ServeOptions } from './serve-store.ts';
import { serveStore } from './serve-store.ts';
import { ServingThread } from './serving-thread.ts';
import { statisticsOf } from './statistics.ts';

export interface VirtiofsOptions extends ServeOptions {
  readonly listen: UnixAddress;
  readonly ownership: SocketOwnership;
}

/** A store that is served to virtual machines. */
export interface Virtiofs extends ServedStore {
  /** The socket, for people. */
  readonly address: string;
}

/** Serves a store to a virtual machine, which connects to a socket; when it has gone, to the next. */
export async function serveVirtiofs(options: VirtiofsOptions): Promise<Virtiofs> {
  const listener = await listenUnix(options.listen, options.ownership);
  try {
    const served = await serveStore(options, async (context) => {
      const thread = await ServingThread.start('vhost-user', { ...options, notifies: false }, context);
      thread.serve(listener.fd, context);
      return {
        closed: thread.ended.then((failure) => {
          listener.close();
          if (!failure) return;
          // Its guest cannot be handed on: the connection, its memory and its rings were the thread's.
          throw new StoreError('INTERNAL', `the thread that served the guest failed: ${messageOf(failure)}`);
        }),
        stop: () => thread.stop(),
        responds: (withinMs) => thread.responds(withinMs),
        statistics: () => statisticsOf([thread], context.nodes),
      };
    });
    return { ...served, address: listener.shown };
  } catch (error) {
    listener.close();
    throw error;
  }
}
