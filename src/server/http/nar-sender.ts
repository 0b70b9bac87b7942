import type { OutgoingHttpHeaders } from 'node:http';
import type { Node } from '../../castore/node.ts';
import { decodeBase32 } from '../../nix/base32.ts';
import type { KnownNar } from '../../store/nar/index.ts';
import { renderNar } from '../../store/nar/render.ts';
import { narSize } from '../../store/nar/size.ts';
import type { PathDescription } from '../../store/path-info/path-info.ts';
import { hasContents } from '../../store/path-info/path-info.ts';
import type { Store } from '../../store/services.ts';
import type { StoredFormat } from '../../store/upload/stored.ts';
import { storedFile, storedLength } from '../../store/upload/stored.ts';
import type { UploadTables } from '../../store/upload/tables.ts';
import { asBuffer } from '../../util/bytes.ts';
import { invalid } from '../../util/errors.ts';
import { accepts, zstdEncoded } from './encoding.ts';
import type { Body, Exchange } from './exchange.ts';
import { HttpProblem } from './problem.ts';
import { parseRootNode } from './root-node.ts';

const HEADERS: OutgoingHttpHeaders = {
  'content-type': 'application/x-nix-nar',
  'cache-control': 'max-age=31536000, immutable',
};

/** Gives NARs out of a store. */
export class NarSender {
  readonly #store: Store;
  readonly #tables: UploadTables;
  readonly #compress: boolean;

  /** `compress`: by zstd, for clients that ask for it. */
  constructor(store: Store, tables: UploadTables, compress: boolean) {
    this.#store = store;
    this.#tables = tables;
    this.#compress = compress;
  }

  /** The NAR of a root node, `nar/…-castore/<root>?narsize=<length>`. */
  async byRoot(exchange: Exchange, text: string): Promise<void> {
    const claimed = exchange.query.get('narsize') ?? '';
    if (!/^\d{1,15}$/.test(claimed)) throw invalid('want ?narsize= and the length of the NAR in bytes');
    const node = parseRootNode(text);
    const length = Number(claimed);
    const check = async (signal?: AbortSignal) => {
      if ((await narSize(this.#store, node, length, signal)) !== length) {
        throw invalid(`the NAR has another length than ${length}`);
      }
    };
    // That of a directory takes a while: it is looked at when that is worth it, or turns out on the way.
    if (node.kind !== 'directory') await check();
    await this.#send(exchange, { ...this.#nar(node, length), check });
  }

  /** The NAR of this hash. */
  async byHash(exchange: Exchange, sha256: Uint8Array): Promise<void> {
    const nar = await this.#known(sha256);
    const body = nar
      ? this.#nar(nar.node, Number(nar.narSize))
      : ((await this.#file(sha256, 'gzip')) ?? (await this.#ofPath(exchange, sha256)));
    if (!body) throw missing();
    await this.#send(exchange, body);
  }

  /** The compressed file that was uploaded with this hash. */
  async byFileHash(exchange: Exchange, sha256: Uint8Array, compression: StoredFormat): Promise<void> {
    const body = await this.#file(sha256, compression);
    if (!body) throw missing();
    await exchange.send(body, HEADERS);
  }

  async #known(narSha256: Uint8Array): Promise<KnownNar | undefined> {
    const nar = this.#tables.nars.get(narSha256);
    return nar && (await this.#hasRoot(nar.node)) ? nar : undefined;
  }

  async #hasRoot(node: Node): Promise<boolean> {
    if (node.kind === 'symlink') return true;
    const { directories, blobs } = this.#store;
    const found = node.kind === 'file' ? blobs.chunks(node.digest) : directories.get(node.digest);
    return (await found) !== undefined;
  }

  /** A file that compresses nothing stands for the one that was uploaded. */
  async #file(sha256: Uint8Array, compression: StoredFormat): Promise<Body | undefined> {
    const file = this.#tables.file(sha256);
    const nar = file?.compression === compression && (await this.#known(file.narSha256));
    if (!nar) return undefined;
    const contents = { ...this.#nar(nar.node, Number(nar.narSize)), crc32: file.crc32 };
    return {
      length: storedLength(compression, contents),
      read: (start, end, signal) => storedFile(compression, contents, start, end, signal),
    };
  }

  /** The NAR of the path that `?hash=` names, which is fetched if need be. */
  async #ofPath({ query, signal, method }: Exchange, narSha256: Uint8Array): Promise<Body | undefined> {
    const hash = query.get('hash');
    if (!hash || !/^[0-9a-df-np-sv-z]{32}$/.test(hash)) return undefined;
    const { pathInfos } = this.#store;
    const isHead = method === 'HEAD';
    const find = (key: Uint8Array) => (isHead ? pathInfos.describe(key, signal) : pathInfos.get(key, signal));
    const info: PathDescription | undefined = await find(decodeBase32(hash));
    if (!info || !asBuffer(info.narSha256).equals(narSha256)) return undefined;
    const length = Number(info.narSize);
    return hasContents(info) ? this.#nar(info.node, length) : { length, read: notHere };
  }

  #nar(node: Node, length: number): Body {
    return {
      length,
      // To its end, wherever that is: a wrong length shows.
      read: (start, end, signal) =>
        this.#render(node, start, end < length ? end : Number.MAX_SAFE_INTEGER, signal),
    };
  }

  async *#render(node: Node, start: number, end: number, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    if (!(await this.#hasRoot(node))) throw missing();
    yield* renderNar(this.#store, node, { start, end, transient: true, signal });
  }

  async #send(exchange: Exchange, body: Body): Promise<void> {
    if (!this.#compress) return exchange.send(body, HEADERS);
    const headers = { ...HEADERS, vary: 'accept-encoding' };
    const isWhole = exchange.header('range') === undefined;
    if (!isWhole || !accepts(exchange.header('accept-encoding'), 'zstd')) return exchange.send(body, headers);
    await exchange.stream(200, { ...headers, 'content-encoding': 'zstd' }, () =>
      zstdEncoded(body.read(0, body.length, exchange.signal)),
    );
  }
}

function missing(): HttpProblem {
  return new HttpProblem(404, 'this NAR is not here');
}

/** The contents of what has only been described. */
function notHere(): never {
  throw missing();
}
