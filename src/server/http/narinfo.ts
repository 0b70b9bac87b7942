import { decodeBase32, encodeBase32 } from '../../nix/base32.ts';
import { MAX_NARINFO_LENGTH, NarInfo } from '../../nix/narinfo/narinfo.ts';
import { narListing } from '../../store/nar/listing.ts';
import type { PathDescription } from '../../store/path-info/path-info.ts';
import { hasContents } from '../../store/path-info/path-info.ts';
import type { Store } from '../../store/services.ts';
import { NarInfoTaker } from '../../store/upload/narinfo.ts';
import type { UploadTables } from '../../store/upload/tables.ts';
import { invalid } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import type { Exchange } from './exchange.ts';
import { HttpProblem } from './problem.ts';
import { printRootNode } from './root-node.ts';
import type { Route } from './router.ts';

const NARINFO = 'text/x-nix-narinfo';
const HASH = '([0-9a-df-np-sv-z]{32})';

/** Routes that serve and take the narinfos of a binary cache. */
export function narInfoRoutes(
  store: Store,
  tables: UploadTables,
  checkUpload: (exchange: Exchange) => void,
): Route[] {
  const taker = new NarInfoTaker(store, tables);
  return [
    {
      name: 'narinfo',
      path: new RegExp(`^/${HASH}\\.narinfo$`),
      async get(exchange, text) {
        const hash = decodeBase32(text!);
        const found = await store.pathInfos.describe(hash, exchange.signal);
        if (!found) throw missing(text!);
        exchange.reply(200, NARINFO, narInfoText(found, tables.lines(hash)));
      },
      async put(exchange, text) {
        checkUpload(exchange);
        const narInfo = NarInfo.parse(await exchange.bytes(MAX_NARINFO_LENGTH));
        if (narInfo.storePath.hashText !== text) {
          throw invalid(`this is the narinfo of ${narInfo.storePath.absolute()}, not of ${text}`);
        }
        await taker.take(narInfo, exchange.signal);
        log.info('taken', { path: narInfo.storePath.absolute() });
        exchange.reply(200, 'text/plain', '');
      },
    },
    {
      name: 'listing',
      path: new RegExp(`^/${HASH}\\.ls$`),
      async get(exchange, text) {
        const info = await store.pathInfos.get(decodeBase32(text!), exchange.signal);
        if (!info) throw missing(text!);
        const make = () => narListing(store, info.node, exchange.signal);
        await exchange.stream(200, { 'content-type': 'application/json' }, make);
      },
      // A Nix that is told to write listings uploads them. We make our own.
      async put(exchange) {
        checkUpload(exchange);
        for await (const _ of exchange.body());
        exchange.reply(200, 'text/plain', '');
      },
    },
  ];
}

function missing(hash: string): HttpProblem {
  return new HttpProblem(404, `there is no path with the hash ${hash}`);
}

/** The narinfo of a path whose NAR is to be had here; `lines` is what was told besides. */
function narInfoText(info: PathDescription, lines: string): string {
  const values = { url: urlOf(info), compression: 'none', fileHash: undefined, fileSize: info.narSize };
  if (info instanceof NarInfo) return info.with(values).toString();
  return NarInfo.of({ ...info, ...values }).toString() + lines;
}

/**
 * Where the NAR of a path is. One whose contents are not here yet has to be asked for by the hash of the path,
 * from which they are fetched.
 */
function urlOf(info: PathDescription): string {
  if (!hasContents(info)) {
    return `nar/${encodeBase32(info.narSha256)}.nar?hash=${info.storePath.hashText}`;
  }
  return `nar/snix-castore/${printRootNode(info.node)}?narsize=${info.narSize}`;
}
