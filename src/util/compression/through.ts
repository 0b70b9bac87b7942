import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import type { Transform } from 'node:stream';
import { pipeline, Readable } from 'node:stream';
import { text } from 'node:stream/consumers';

/** Contents on their way. */
export type Bytes = AsyncIterable<Uint8Array>;

/** Sends bytes through a stream of Node's. */
export async function* throughStream(source: Bytes, transform: Transform): AsyncGenerator<Uint8Array> {
  // How this ends, the reader of the transform learns.
  pipeline(Readable.from(source, { objectMode: false }), transform, () => {});
  yield* transform;
}

/** Sends bytes through a program that has just been started. Throws what it complains of. */
export async function* throughProgram(
  source: Bytes,
  program: ChildProcessWithoutNullStreams,
): AsyncGenerator<Uint8Array> {
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});
  const complaint = text(program.stderr);
  const status = new Promise<number | null>((resolve) => {
    program.once('close', resolve);
    program.once('error', failed.reject);
  });
  pipeline(Readable.from(source, { objectMode: false }), program.stdin, (error) => {
    // A program that ends before it has read everything has its reasons.
    if (!error || (error as NodeJS.ErrnoException).code === 'EPIPE') return;
    failed.reject(error);
    program.stdout.destroy(error);
  });
  try {
    yield* program.stdout;
    if ((await Promise.race([status, failed.promise])) !== 0) throw new Error((await complaint).trim());
  } finally {
    program.kill();
  }
}

/** Cuts bytes into parts of at most `length`, for a decoder that puts out at once whatever a part becomes. */
export async function* inSmallParts(source: Bytes, length: number): AsyncGenerator<Uint8Array> {
  for await (const part of source) {
    for (let at = 0; at < part.length; at += length) yield part.subarray(at, at + length);
  }
}
