import { encodeChunkList } from '../../castore/blob/chunk-list.ts';
import type { Outboard } from '../../castore/blob/service.ts';
import { MAX_CHUNK_LENGTH } from '../../castore/blob/service.ts';
import { Digest, EMPTY_DIGEST } from '../../castore/digest.ts';
import { packed } from '../../castore/directory/pack.ts';
import { FORMAT } from '../../castore/objects/format.ts';
import type { OurKind } from '../../castore/objects/object-store.ts';
import { decodeBase32 } from '../../nix/base32.ts';
import { encodePathInfo } from '../../store/path-info/message.ts';
import { hasContents } from '../../store/path-info/path-info.ts';
import { profileKey } from '../../store/profile/objects.ts';
import { MAX_PROFILE_LENGTH } from '../../store/profile/profile.ts';
import type { Store } from '../../store/services.ts';
import type { ServingSigner } from '../../store/trust/serving-signer.ts';
import { collect } from '../../util/bytes.ts';
import { zstdCompress, zstdCompressStream } from '../../util/compression/zstd.ts';
import type { Exchange } from './exchange.ts';
import { HttpProblem } from './problem.ts';
import type { Route } from './router.ts';

const BYTES = 'application/octet-stream';
/** What has a digest for a name is never another. */
const FOR_EVER = { 'cache-control': 'max-age=31536000, immutable' };
const ASK_AGAIN = { 'cache-control': 'no-cache' };
/** What a chunk may take while it is read and compressed, in bytes; more is counted when it is known. */
const CHUNK = 1 << 20;
/** Of an outboard, so many bytes are sent at once. */
const PART = 64 << 10;

/**
 * The objects of a bucket, made of what any store has: what `objectstore+https://` reads, under the keys that
 * `ObjectStoreBlobService`, `ObjectStoreDirectoryService` and `ObjectStorePathInfoService` tell of; and of a bucket its
 * profiles.
 */
export function bucketRoutes(store: Store, signer: ServingSigner): Route[] {
  const { pathInfos } = store;
  // What has gone of paths that are kept here whole can still be had where they are from, by castore.
  const { blobs, directories } = store.signedRoots?.contents ?? store;
  return [
    { name: 'bucket-format', path: /^\/format$/, get: (exchange) => exchange.reply(200, BYTES, FORMAT) },
    {
      name: 'bucket-path-info',
      path: /^\/pathinfo\/v1\/([0-9a-df-np-sv-z]{32})$/,
      async get(exchange, text) {
        const info = await pathInfos.get(decodeBase32(text!), exchange.signal);
        if (!info || !exchange.grant?.isFor(info.storePath)) throw missing();
        const signed = await signer.signed(info, exchange.signal);
        if (!hasContents(signed)) throw missing();
        exchange.reply(200, BYTES, encodePathInfo(signed), ASK_AGAIN);
      },
    },
    {
      name: 'bucket-profile',
      path: /^\/profiles\/v1\/([0-9a-df-np-sv-z]{32})$/,
      async get(exchange, text) {
        const hash = decodeBase32(text!);
        const info = store.bucket && (await pathInfos.describe(hash, exchange.signal));
        if (!info || !exchange.grant?.isFor(info.storePath)) throw missing();
        const { objects } = store.bucket!;
        const profile = await objects.get(profileKey(hash), MAX_PROFILE_LENGTH, exchange.signal);
        if (!profile) throw missing();
        exchange.reply(200, BYTES, profile.bytes, ASK_AGAIN);
      },
    },
    object('dirs', async (exchange, digest) => {
      const closure = async function* () {
        let isThere = false;
        for await (const directory of directories.getRecursive(digest, exchange.signal)) {
          isThere = true;
          yield directory;
        }
        if (!isThere) throw missing();
      };
      const make = () => zstdCompressStream(packed(closure()));
      await exchange.stream(200, { 'content-type': BYTES, ...FOR_EVER }, make);
    }),
    object('blobs', async (exchange, digest) => {
      if (digest.equals(EMPTY_DIGEST)) return exchange.reply(200, BYTES, '', FOR_EVER);
      const chunks = await blobs.chunks(digest, exchange.signal);
      if (!chunks || chunks.length < 2) throw missing();
      exchange.reply(200, BYTES, encodeChunkList(chunks), FOR_EVER);
    }),
    object('bao', async (exchange, digest) => {
      const outboard = await blobs.outboard?.(digest, { make: true, signal: exchange.signal });
      if (!outboard || outboard.length === 0) throw missing();
      const { length } = outboard;
      const read = (start: number, end: number) => partsOf(outboard, start, end, exchange.signal);
      await exchange.send({ length, read }, { 'content-type': BYTES, ...FOR_EVER });
    }),
    object('chunks', async (exchange, digest) => {
      await exchange.holding.take(CHUNK);
      const chunks = await blobs.chunks(digest, exchange.signal);
      const isOne = chunks !== undefined && chunks.length < 2 && !digest.equals(EMPTY_DIGEST);
      const contents = isOne ? await blobs.read(digest, { signal: exchange.signal }) : undefined;
      const bytes = contents && (await collect(contents, MAX_CHUNK_LENGTH));
      if (!bytes) throw missing();
      const compressed = zstdCompress(bytes);
      exchange.holding.add(Math.max(0, bytes.length + compressed.length - CHUNK));
      exchange.reply(200, BYTES, compressed, FOR_EVER);
    }),
  ];
}

function object(kind: OurKind, get: (exchange: Exchange, digest: Digest) => Promise<void>): Route {
  return {
    name: `bucket-${kind}`,
    path: new RegExp(`^/${kind}/b3/([0-9a-f]{4})/(\\1[0-9a-f]{60})$`),
    get: (exchange, _prefix, hex) => get(exchange, Digest.parse(hex!)),
  };
}

async function* partsOf(
  outboard: Outboard,
  start: number,
  end: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let at = start; at < end; at += PART) yield outboard.read(at, Math.min(PART, end - at), signal);
}

function missing(): HttpProblem {
  return new HttpProblem(404, 'there is no such object');
}
