import type { OutgoingHttpHeaders } from 'node:http';
import type { Node } from '../../castore/node.ts';
import { decodeBase32 } from '../../nix/base32.ts';
import { renderHeld } from '../../store/nar/held.ts';
import type { KnownNar } from '../../store/nar/index.ts';
import type { RenderOptions } from '../../store/nar/render.ts';
import { renderNar } from '../../store/nar/render.ts';
import { narSize } from '../../store/nar/size.ts';
import type { PathDescription } from '../../store/path-info/path-info.ts';
import { hasContents } from '../../store/path-info/path-info.ts';
import type { Store } from '../../store/services.ts';
import { keptNar } from '../../store/side-files/name.ts';
import { SideFiles } from '../../store/side-files/side-files.ts';
import type { UploadedCompression } from '../../store/upload/nar.ts';
import type { StoredFormat } from '../../store/upload/stored.ts';
import { storedFile, storedLength } from '../../store/upload/stored.ts';
import type { UploadTables } from '../../store/upload/tables.ts';
import { asBuffer } from '../../util/bytes.ts';
import { invalid } from '../../util/errors.ts';
import { arrivingNar } from './arriving-nar.ts';
import { accepts, zstdEncoded } from './encoding.ts';
import type { Body, Exchange } from './exchange.ts';
import { HttpProblem } from './problem.ts';
import { parseRootNode } from './root-node.ts';

const HEADERS: OutgoingHttpHeaders = {
  'content-type': 'application/x-nix-nar',
  'cache-control': 'max-age=31536000, immutable',
};

/** Of a NAR that another may take the place of. */
const CHANGING: OutgoingHttpHeaders = { ...HEADERS, 'cache-control': 'no-cache' };

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
    const ofPath = () => this.#ofPath(exchange, exchange.query.get('hash'), sha256);
    const here = async () => {
      const nar = await this.#known(sha256);
      return nar ? this.#nar(nar.node, Number(nar.narSize)) : this.#file(sha256, 'gzip');
    };
    // Of what comes from elsewhere a part may have gone, which can only be had again by the path.
    const body = this.#store.paths
      ? ((await ofPath()) ?? (await here()))
      : ((await here()) ?? (await ofPath()));
    if (!body) throw missing();
    await this.#send(exchange, body);
  }

  /** The NAR of the path with this hash; of no other than this one, where that is known. */
  async byPath(exchange: Exchange, hash: string, sha256: Uint8Array | undefined): Promise<void> {
    const body = await this.#ofPath(exchange, hash, sha256);
    if (!body) throw missing();
    await this.#send(exchange, body, sha256 ? HEADERS : CHANGING);
  }

  /** The compressed file that was uploaded with this hash. */
  async byFileHash(exchange: Exchange, sha256: Uint8Array, compression: UploadedCompression): Promise<void> {
    const body = compression === 'bzip2' ? await this.#kept(sha256) : await this.#file(sha256, compression);
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

  /** The file that was uploaded. */
  async #kept(sha256: Uint8Array): Promise<Body | undefined> {
    const found = await new SideFiles(this.#store, this.#tables.store).get(keptNar(sha256));
    return found && { length: found.size, read: found.read };
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

  /** The NAR of a path, which is fetched if need be. */
  async #ofPath(
    { signal }: Exchange,
    hash: string | null,
    narSha256: Uint8Array | undefined,
  ): Promise<Body | undefined> {
    if (!hash || !/^[0-9a-df-np-sv-z]{32}$/.test(hash)) return undefined;
    const info: PathDescription | undefined = await this.#store.pathInfos.describe(
      decodeBase32(hash),
      signal,
    );
    if (!info || (narSha256 && !asBuffer(info.narSha256).equals(narSha256))) return undefined;
    const length = Number(info.narSize);
    if (hasContents(info) && !this.#store.paths) return this.#nar(info.node, length);
    return { length, read: (start, end, until) => this.#fetched(info, start, end, until) };
  }

  /** The NAR of a path that may not be here yet: as it comes, and what has not been sent then, when all of it is. */
  async *#fetched(
    { storePath: { hash }, narSize }: PathDescription,
    start: number,
    end: number,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array> {
    const { paths, pathInfos } = this.#store;
    const length = Number(narSize);
    const bring = async () => {
      const held = await paths?.held?.(hash, signal);
      held?.release();
      return held?.info ?? pathInfos.get(hash, signal);
    };
    const whole = bring();
    let sent = start;
    if (paths && start === 0 && end === length) {
      for await (const part of arrivingNar(paths, hash, length, () => whole)) {
        yield part;
        sent += part.length;
      }
    }
    const info = await whole;
    if (!info || info.narSize !== narSize) throw missing();
    yield* renderHeld(this.#store, info, { ...range(sent, end, length), transient: true, signal });
  }

  #nar(node: Node, length: number): Body {
    return {
      length,
      read: (start, end, signal) => this.#render(node, { ...range(start, end, length), signal }),
    };
  }

  async *#render(node: Node, options: RenderOptions): AsyncGenerator<Uint8Array> {
    if (!(await this.#hasRoot(node))) throw missing();
    yield* renderNar(this.#store, node, { ...options, transient: true });
  }

  async #send(exchange: Exchange, body: Body, kept: OutgoingHttpHeaders = HEADERS): Promise<void> {
    if (!this.#compress) return exchange.send(body, kept);
    const headers = { ...kept, vary: 'accept-encoding' };
    const isWhole = exchange.header('range') === undefined;
    if (!isWhole || !accepts(exchange.header('accept-encoding'), 'zstd')) return exchange.send(body, headers);
    await exchange.stream(200, { ...headers, 'content-encoding': 'zstd' }, () =>
      zstdEncoded(body.read(0, body.length, exchange.signal)),
    );
  }
}

/** A part of a NAR; to its end, wherever that is: a wrong length shows. */
function range(start: number, end: number, length: number) {
  return { start, end: end < length ? end : Number.MAX_SAFE_INTEGER };
}

function missing(): HttpProblem {
  return new HttpProblem(404, 'this NAR is not here');
}
