import { constants } from 'node:os';
import { libc } from './libc.ts';

const SIG_UNBLOCK = 1;
/** Of a `sigset_t`. */
const SET_LENGTH = 128;

/** Lets a signal through to this thread. Node keeps SIGUSR1 from a program that it was started for with `--disable-sigusr1`. */
export function letThrough(signal: NodeJS.Signals): void {
  const bit = constants.signals[signal] - 1;
  const set = new Uint8Array(SET_LENGTH);
  set[bit >> 3] = 1 << (bit & 7);
  libc.pthread_sigmask(SIG_UNBLOCK, set, null);
}
