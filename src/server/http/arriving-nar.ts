import type { PathSource } from '../../store/services.ts';

/** What has come and not been sent yet, at the most in bytes: for a client that is slower, the rest comes from the store. */
const MAX_WAITING = 16 << 20;

/**
 * Yields the beginning of a NAR as it comes from elsewhere, for as long as that goes well: all of it but the end, which only
 * who has checked the whole may send. Whatever comes after that is to be had when `whole` resolves. `whole` brings the path here.
 */
export async function* arrivingNar(
  from: PathSource,
  hash: Uint8Array,
  length: number,
  whole: () => Promise<unknown>,
): AsyncGenerator<Uint8Array> {
  const waiting: Uint8Array[] = [];
  let heard = 0;
  let size = 0;
  let attempt: object | undefined;
  let isOver = false;
  let wake = () => {};
  const stop = from.listen?.(hash, (part, offset, its) => {
    attempt ??= offset === 0 ? its : undefined;
    if (its !== attempt || isOver) return;
    heard += part.length;
    size += part.length;
    // The end, or more than there should be.
    isOver = heard >= length || size > MAX_WAITING;
    if (!isOver) waiting.push(Uint8Array.from(part));
    wake();
  });
  const ended = whole().then(
    () => {
      isOver = true;
      wake();
    },
    () => {
      isOver = true;
      wake();
    },
  );
  try {
    for (;;) {
      const part = waiting.shift();
      if (part) {
        size -= part.length;
        yield part;
      } else if (isOver) return;
      else await Promise.race([ended, new Promise<void>((resolve) => (wake = resolve))]);
    }
  } finally {
    stop?.();
  }
}
