import { BLAKE3, CAPABILITIES, COMPRESSOR, MAX_BATCH } from '../../../proto/grpc/methods.ts';
import { build } from '../../../proto/remote.ts';
import type { Implementation } from '../implementation.ts';
import { unary } from '../implementation.ts';

const { ALLOWED } = build.bazel.remote.execution.v2.SymlinkAbsolutePathStrategy.Value;

/** What there is of the Remote Execution API: its storage. */
export function capabilities(): Implementation {
  return unary(CAPABILITIES.get, async () => ({
    cacheCapabilities: {
      digestFunctions: [BLAKE3],
      actionCacheUpdateCapabilities: { updateEnabled: false },
      maxBatchTotalSizeBytes: MAX_BATCH,
      symlinkAbsolutePathStrategy: ALLOWED,
      supportedCompressors: [COMPRESSOR.IDENTITY, COMPRESSOR.ZSTD],
      supportedBatchUpdateCompressors: [COMPRESSOR.IDENTITY, COMPRESSOR.ZSTD],
      spliceBlobSupport: true,
    },
    // The first that names digest functions is the newest whose calls are all known here.
    lowApiVersion: { major: 2, minor: 0 },
    highApiVersion: { major: 2, minor: 3 },
  }));
}
