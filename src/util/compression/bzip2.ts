import { on } from 'node:events';
import { startThread } from '../async/thread.ts';
import type { Bzip2Answer, Bzip2Question, Bzip2ThreadData } from './bzip2-protocol.ts';
import type { Bytes } from './through.ts';

/** Of the thread, in MiB: a block of 900 kB may become 46 MB, which the package holds as numbers. */
const MEMORY_LIMIT_MB = 1024;

/**
 * Undoes bzip2. The package works block by block and puts out whatever a block becomes, so it runs in a thread
 * that can be made to wait, and that alone ends when it runs out of memory.
 */
export async function* decompressBzip2(source: Bytes): AsyncGenerator<Uint8Array> {
  const data: Bzip2ThreadData = { untaken: new Int32Array(new SharedArrayBuffer(4)) };
  const thread = startThread(import.meta.url, './bzip2-thread.js', data, {
    maxOldGenerationSizeMb: MEMORY_LIMIT_MB,
  });
  const input = source[Symbol.asyncIterator]();
  const feed = async () => {
    const { done, value } = await input.next();
    thread.postMessage((done ? 'end' : value) satisfies Bzip2Question);
  };
  try {
    const answers = on(thread, 'message');
    await feed();
    for await (const [answer] of answers as AsyncIterable<[Bzip2Answer]>) {
      if (answer === 'end') return;
      if (answer === 'more') await feed();
      else if (answer instanceof Uint8Array) {
        Atomics.sub(data.untaken, 0, answer.length);
        Atomics.notify(data.untaken, 0);
        yield answer;
      } else throw new Error(answer.error);
    }
  } finally {
    await thread.terminate();
    await input.return?.();
  }
}
