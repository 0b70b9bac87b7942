import type { Client } from '@grpc/grpc-js';
import { connectivityState } from '@grpc/grpc-js';
import { StoreError } from '../../util/errors.ts';
import { whyUnreachable } from '../../util/unreachable.ts';

/**
 * Waits for a connection. True when there is one, false when none can be made: then the next call says why. Throws
 * UNAVAILABLE when neither is known after so long, in milliseconds.
 */
export async function reach(client: Client, address: string, milliseconds: number): Promise<boolean> {
  const channel = client.getChannel();
  const until = Date.now() + milliseconds;
  for (;;) {
    const state = channel.getConnectivityState(true);
    if (state === connectivityState.READY) return true;
    if (state === connectivityState.TRANSIENT_FAILURE) return false;
    await new Promise<void>((resolve, reject) => {
      channel.watchConnectivityState(state, until, (error) => {
        if (!error) resolve();
        else
          reject(new StoreError('UNAVAILABLE', `cannot connect to ${address}: ${whyUnreachable('timeout')}`));
      });
    });
  }
}
