import { decodeBase32 } from '../../nix/base32.ts';
import type { Store } from '../../store/services.ts';
import type { UploadedCompression } from '../../store/upload/nar.ts';
import { takeNar } from '../../store/upload/nar.ts';
import type { UploadTables } from '../../store/upload/tables.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import { UPLOAD_MEMORY } from '../shares/budget.ts';
import type { Exchange } from './exchange.ts';
import type { NarSender } from './nar-sender.ts';
import { HttpProblem } from './problem.ts';
import type { Route } from './router.ts';

/** Endings that a Nix which compresses puts behind `.nar`; gzip has none. */
const ENDINGS: Record<string, UploadedCompression> = {
  '.xz': 'xz',
  '.zst': 'zstd',
  '.bz2': 'bzip2',
  '.lz4': 'lz4',
  '.br': 'br',
};

/** The NARs of a binary cache. */
export function narRoutes(store: Store, tables: UploadTables, sender: NarSender): Route[] {
  return [
    {
      name: 'castore-nar',
      path: /^\/nar\/(?:tvix|snix)-castore\/([^/]+)$/,
      get: (exchange, root) => sender.byRoot(exchange, root!),
    },
    {
      // As other servers name them (nix-serve, attic), whose narinfos clients remember after this one took their place.
      name: 'nar-of-path',
      path: /^\/nar\/([0-9a-df-np-sv-z]{32})(?:-([0-9a-z]{52}))?\.nar$/,
      get: (exchange, hash, text) => sender.byPath(exchange, hash!, text ? parseSha256(text) : undefined),
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
        const sha256 = parseSha256(text!);
        const compression = ending === undefined ? undefined : ENDINGS[ending];
        if (exchange.header('content-encoding') !== undefined) throw notTaken('Content-Encoding');
        if (ending !== undefined && !compression) throw notTaken(ending);
        await exchange.holding.take(UPLOAD_MEMORY);
        await take(exchange, sha256, compression);
        exchange.reply(200, 'text/plain', '');
      },
    },
  ];

  async function take(exchange: Exchange, sha256: Uint8Array, compression: UploadedCompression | undefined) {
    // What has come whole is kept, also for a client that is gone: it will look for it the next time.
    const cut = new AbortController();
    const leave = () => cut.abort(exchange.signal.reason);
    exchange.signal.addEventListener('abort', leave);
    const bytes = async function* (): AsyncGenerator<Uint8Array> {
      yield* exchange.body();
      exchange.signal.removeEventListener('abort', leave);
    };
    try {
      await takeNar(store, tables, { sha256, compression, bytes: bytes() }, cut.signal);
    } catch (error) {
      if (error instanceof StoreError && error.code === 'UNIMPLEMENTED') throw notTaken(error.message);
      throw error;
    } finally {
      exchange.signal.removeEventListener('abort', leave);
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
    `a NAR in this form is not taken (${what}): upload with ?compression=none, xz, zstd, gzip, bzip2, lz4 or br`,
  );
}
