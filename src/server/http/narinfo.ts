import { decodeBase32, encodeBase32 } from '../../nix/base32.ts';
import { MAX_NARINFO_LENGTH, NarInfo } from '../../nix/narinfo/narinfo.ts';
import type { StorePath } from '../../nix/store-path.ts';
import { narListing } from '../../store/nar/listing.ts';
import type { PathDescription } from '../../store/path-info/path-info.ts';
import { hasContents } from '../../store/path-info/path-info.ts';
import type { Store } from '../../store/services.ts';
import type { ServingSigner } from '../../store/trust/serving-signer.ts';
import { linesBeside, linesBesideKnown } from '../../store/upload/narinfo-lines.ts';
import { PathInfoTaker } from '../../store/upload/path-info.ts';
import type { UploadTables } from '../../store/upload/tables.ts';
import { collect } from '../../util/bytes.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { decodedBody, replyEncoded } from './encoding.ts';
import type { Exchange } from './exchange.ts';
import { HttpProblem } from './problem.ts';
import { printRootNode } from './root-node.ts';
import type { Route } from './router.ts';

const NARINFO = 'text/x-nix-narinfo';
const HASH = '([0-9a-df-np-sv-z]{32})';

/** Whether the token that was shown is for a store path. */
function mayReach({ grant }: Exchange, path: StorePath): boolean {
  return grant?.isFor(path) ?? false;
}

/** Routes that serve and take the narinfos of a binary cache. */
export function narInfoRoutes(store: Store, tables: UploadTables, signer: ServingSigner): Route[] {
  const taker = new PathInfoTaker(store, tables);
  return [
    {
      name: 'narinfo',
      path: new RegExp(`^/${HASH}\\.narinfo$`),
      async get(exchange, text) {
        const hash = decodeBase32(text!);
        const found = await store.pathInfos.describe(hash, exchange.signal);
        if (!found || !mayReach(exchange, found.storePath)) throw missing(text!);
        const signed = await signer.signed(found, exchange.signal);
        replyEncoded(exchange, NARINFO, narInfoText(signed, tables.lines(hash), store.paths !== undefined));
      },
      async put(exchange, text) {
        const bytes = await collect(decodedBody(exchange), MAX_NARINFO_LENGTH);
        if (!bytes) throw invalid(`the narinfo is longer than ${MAX_NARINFO_LENGTH} bytes`);
        const narInfo = NarInfo.parse(bytes);
        if (narInfo.storePath.hashText !== text) {
          throw invalid(`this is the narinfo of ${narInfo.storePath.absolute()}, not of ${text}`);
        }
        if (!mayReach(exchange, narInfo.storePath))
          throw new StoreError('PERMISSION_DENIED', `this token is not for ${narInfo.storePath.absolute()}`);
        await taker.take(narInfo, linesBeside(narInfo), exchange.signal);
        log.info('taken', { path: narInfo.storePath.absolute() });
        exchange.reply(200, 'text/plain', '');
      },
    },
    {
      name: 'listing',
      path: new RegExp(`^/${HASH}\\.ls$`),
      async get(exchange, text) {
        const info = await store.pathInfos.get(decodeBase32(text!), exchange.signal);
        if (!info || !mayReach(exchange, info.storePath)) throw missing(text!);
        const make = () => narListing(store, info.node, exchange.signal);
        await exchange.stream(200, { 'content-type': 'application/json' }, make);
      },
      // A Nix that is told to write listings uploads them. We make our own.
      async put(exchange) {
        for await (const _ of exchange.body());
        exchange.reply(200, 'text/plain', '');
      },
    },
  ];
}

function missing(hash: string): HttpProblem {
  return new HttpProblem(404, `there is no path with the hash ${hash}`);
}

/** The narinfo of a path whose NAR is to be had here; `lines` is what was told besides. `mayGo`: its contents may. */
function narInfoText(info: PathDescription, lines: string, mayGo: boolean): string {
  const values = {
    url: urlOf(info, mayGo),
    compression: 'none',
    fileHash: undefined,
    fileSize: info.narSize,
  };
  if (info instanceof NarInfo) return info.with(values).toString();
  return NarInfo.of({ ...info, ...values }).toString() + linesBesideKnown(lines, info);
}

/**
 * Where the NAR of a path is. One whose contents are not here yet, or may go again, has to be asked for by the hash of the
 * path, from which they are fetched.
 */
function urlOf(info: PathDescription, mayGo: boolean): string {
  if (mayGo || !hasContents(info)) {
    return `nar/${encodeBase32(info.narSha256)}.nar?hash=${info.storePath.hashText}`;
  }
  return `nar/snix-castore/${printRootNode(info.node)}?narsize=${info.narSize}`;
}
