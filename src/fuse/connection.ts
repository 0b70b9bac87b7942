import { PollSet } from '../util/system/poll-set.ts';

/**
 * Whether the kernel still has what is mounted by this FUSE device. It ends with the last use of the mount, which may be
 * at another place, or in another namespace of mounts, than where it was mounted; or when somebody cuts it off.
 */
export function isConnected(device: number): boolean {
  const poll = new PollSet(1);
  poll.watch(0, device);
  poll.wait(1, 0);
  // After the end there is nothing to be read, but an error.
  return !poll.happened(0) || poll.readable(0);
}
