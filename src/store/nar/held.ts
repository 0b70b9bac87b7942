import { isDamage } from '../../util/errors.ts';
import type { PathInfo } from '../path-info/path-info.ts';
import type { Store } from '../services.ts';
import type { RenderOptions } from './render.ts';
import { renderNar } from './render.ts';

/**
 * The NAR of a store path, or a part of it. Where paths come whole from elsewhere, this one is held while it is read; what
 * another process takes of it meanwhile is fetched again.
 */
export async function* renderHeld(
  store: Store,
  { storePath, node, narSha256 }: PathInfo,
  options: RenderOptions = {},
): AsyncGenerator<Uint8Array> {
  const { paths } = store;
  if (!paths?.held) return yield* renderNar(store, node, options);
  let start = options.start ?? 0;
  for (let failedAt = -1; ; ) {
    const held = await paths.held(storePath.hash, options.signal);
    // It is not from there, or has become another.
    if (!held || Buffer.compare(held.info.narSha256, narSha256) !== 0) {
      held?.release();
      return yield* renderNar(store, node, { ...options, start });
    }
    try {
      for await (const part of renderNar(store, held.info.node, { ...options, start })) {
        start += part.length;
        yield part;
      }
      return;
    } catch (error) {
      const isLost = isDamage(error);
      if (!isLost || start === failedAt) throw error;
      failedAt = start;
    } finally {
      held.release();
    }
  }
}
