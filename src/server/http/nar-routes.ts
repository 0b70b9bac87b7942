import { decodeBase32 } from '../../nix/base32.ts';
import type { Store } from '../../store/services.ts';
import { takeNar } from '../../store/upload/nar.ts';
import type { StoredFormat } from '../../store/upload/stored.ts';
import type { UploadTables } from '../../store/upload/tables.ts';
import { Limiter } from '../../util/async/limiter.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import type { Exchange } from './exchange.ts';
import type { NarSender } from './nar-sender.ts';
import { HttpProblem } from './problem.ts';
import type { Route } from './router.ts';

/** NARs that are read at once, each with memory of its own; the next have to wait. */
const UPLOADS_AT_ONCE = 16;
/** Endings that a Nix which compresses puts behind `.nar`; gzip has none. */
const ENDINGS: Record<string, StoredFormat> = { '.xz': 'xz', '.zst': 'zstd' };

/** The NARs of a binary cache. */
export function narRoutes(
  store: Store,
  tables: UploadTables,
  sender: NarSender,
  checkUpload: (exchange: Exchange) => void,
): Route[] {
  const uploads = new Limiter(UPLOADS_AT_ONCE);
  return [
    {
      name: 'castore-nar',
      path: /^\/nar\/(?:tvix|snix)-castore\/([^/]+)$/,
      get: (exchange, root) => sender.byRoot(exchange, root!),
    },
    {
      name: 'nar',
      path: /^\/nar\/([0-9a-z]{52})\.nar(\.[a-z0-9]+)?$/,
      get(exchange, text, ending) {
        const sha256 = parseSha256(text!);
        if (ending === undefined) return sender.byHash(exchange, sha256);
        const compression = ENDINGS[ending];
        if (!compression) throw new HttpProblem(404, 'this NAR is not here');
        return sender.byFileHash(exchange, sha256, compression);
      },
      async put(exchange, text, ending) {
        checkUpload(exchange);
        const sha256 = parseSha256(text!);
        const compression = ending === undefined ? undefined : ENDINGS[ending];
        if (exchange.header('content-encoding') !== undefined) throw notTaken('Content-Encoding');
        if (ending !== undefined && !compression) throw notTaken(ending);
        await uploads.run(() => take(exchange, sha256, compression));
        exchange.reply(200, 'text/plain', '');
      },
    },
  ];

  async function take(exchange: Exchange, sha256: Uint8Array, compression: StoredFormat | undefined) {
    try {
      await takeNar(store, tables, { sha256, compression, bytes: exchange.body() }, exchange.signal);
    } catch (error) {
      if (error instanceof StoreError && error.code === 'UNIMPLEMENTED') throw notTaken(error.message);
      throw error;
    }
  }
}

function parseSha256(text: string): Uint8Array {
  try {
    return decodeBase32(text);
  } catch (error) {
    throw invalid('the name of the NAR is no SHA-256', { cause: error });
  }
}

function notTaken(what: string): HttpProblem {
  return new HttpProblem(
    415,
    `a NAR in this form is not taken (${what}): upload with ?compression=none, xz, zstd or gzip`,
  );
}
