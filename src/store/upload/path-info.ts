import type { Node } from '../../castore/node.ts';
import { fingerprint } from '../../nix/signature.ts';
import type { StorePath } from '../../nix/store-path.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import { Turns } from '../../util/async/turns.ts';
import { asBuffer, latin1 } from '../../util/bytes.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import { keepTree } from '../keeping/keep-tree.ts';
import { register } from '../moving/import.ts';
import type { KnownNar } from '../nar/index.ts';
import type { IngestedNar } from '../nar/ingest.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import { unitedSignatures } from '../path-info/united.ts';
import type { Store } from '../services.ts';
import { hasContentAddress, isAddressOfPath } from '../trust/content-address.ts';
import type { UploadTables } from './tables.ts';

/** References that are looked for at once. */
const AT_ONCE = 32;
/** Shown of those that are missing. */
const MAX_SHOWN = 10;

/**
 * Takes descriptions of store paths into a store whose NARs have been uploaded before, or were there. Nothing in them is
 * believed that can be checked.
 */
export class PathInfoTaker {
  readonly #store: Store;
  readonly #tables: UploadTables;
  /** Those of one path go one after the other, so that no signature is lost. */
  readonly #running = new Map<string, Promise<unknown>>();

  constructor(store: Store, tables: UploadTables) {
    this.#store = store;
    this.#tables = tables;
  }

  /**
   * Puts the path info of a NAR that was uploaded before; it is durable when this resolves. Signatures of the same path that
   * are there stay. `lines` are those of a narinfo that a path info has no place for. Throws INVALID_ARGUMENT for a
   * description that cannot be true, FAILED_PRECONDITION when references are missing.
   */
  take(described: PathDescription, lines: string, signal?: AbortSignal): Promise<PathInfo> {
    return this.#inTurn(described, async () => {
      await this.#checkReferences(described, signal);
      const present = await this.#store.pathInfos.describe(described.storePath.hash, signal);
      const { node } = await this.#nar(described, present, signal);
      const info = await this.#checked(described, node, present, signal);
      await this.#tables.putLines(described.storePath.hash, lines);
      await this.#tables.store.writer.flush();
      return this.#store.pathInfos.put(info, signal);
    });
  }

  /** As `take`, with a NAR that has just been read into the store. */
  takeIngested(described: PathDescription, nar: IngestedNar, signal?: AbortSignal): Promise<PathInfo> {
    return this.#inTurn(described, async () => {
      if (!asBuffer(nar.narSha256).equals(described.narSha256))
        throw invalid(`the NAR of ${described.storePath.absolute()} has another SHA-256 than it should`);
      checkSize(described, nar);
      // A content address is checked by reading it back.
      if (described.ca) await Promise.all([this.#store.directories.flush(), this.#store.blobs.flush()]);
      await this.#checkReferences(described, signal);
      const present = await this.#store.pathInfos.describe(described.storePath.hash, signal);
      return register(this.#store, await this.#checked(described, nar.node, present, signal), signal);
    });
  }

  async #inTurn(described: PathDescription, take: () => Promise<PathInfo>): Promise<PathInfo> {
    const key = latin1(described.storePath.hash);
    const before = this.#running.get(key);
    const work = (async () => {
      await before?.catch(() => {});
      return take();
    })();
    this.#running.set(key, work);
    try {
      return await work;
    } finally {
      if (this.#running.get(key) === work) this.#running.delete(key);
    }
  }

  /** The path info as it is to be put, when nothing in the description is against what can be checked. */
  async #checked(
    described: PathDescription,
    node: Node,
    present: PathDescription | undefined,
    signal?: AbortSignal,
  ): Promise<PathInfo> {
    const { storePath, references, narSha256, narSize, deriver, ca } = described;
    if (ca && !isAddressOfPath(described))
      throw invalid('the store path does not follow from the content address');
    const named = { node, narSha256, storePath, references };
    if (ca && !(await hasContentAddress(this.#store, named, ca, signal))) {
      throw invalid('the content address is not that of the contents');
    }
    const isSame = present && fingerprint(present) === fingerprint(described);
    const signatures = unitedSignatures(isSame ? present.signatures : [], described.signatures);
    return { storePath, node, references, narSize, narSha256, signatures, deriver, ca };
  }

  async #checkReferences({ storePath, references }: PathDescription, signal?: AbortSignal): Promise<void> {
    const isThere = async (path: StorePath) => {
      if (asBuffer(path.hash).equals(storePath.hash)) return path.name === storePath.name;
      const found = await this.#store.pathInfos.describe(path.hash, signal);
      return found?.storePath.name === path.name;
    };
    const missing: StorePath[] = [];
    const turns = new Turns(signal);
    const look = async (path: StorePath) => ({ path, isFound: await isThere(path) });
    for await (const { path, isFound } of mapAhead(references, AT_ONCE, look)) {
      if (!isFound) missing.push(path);
      if (turns.isDue) await turns.take();
    }
    if (missing.length === 0) return;
    const shown = missing.slice(0, MAX_SHOWN).map((path) => path.absolute());
    const more = missing.length > MAX_SHOWN ? ` and ${missing.length - MAX_SHOWN} more` : '';
    throw new StoreError(
      'FAILED_PRECONDITION',
      `${storePath.absolute()} refers to what is not here: ${shown.join(', ')}${more}; upload that first`,
    );
  }

  /** Finds the tree that the NAR of a path has become in the store. */
  async #nar(
    described: PathDescription,
    present: PathDescription | undefined,
    signal?: AbortSignal,
  ): Promise<KnownNar> {
    const { storePath, narSha256 } = described;
    const { nars } = this.#tables;
    const known = nars.get(narSha256) ?? (await this.#present(described, present, signal));
    if (!known) throw invalid(`the NAR of ${storePath.absolute()} is not here; upload that first`);
    checkSize(described, known);
    if (await keepTree(this.#store, known.node, signal)) return known;
    await nars.forget(narSha256);
    throw invalid(`the NAR of ${storePath.absolute()} is not complete any more; upload it again`);
  }

  async #present(
    { storePath, narSha256 }: PathDescription,
    present: PathDescription | undefined,
    signal?: AbortSignal,
  ) {
    if (!present || !asBuffer(present.narSha256).equals(narSha256)) return undefined;
    return this.#store.pathInfos.get(storePath.hash, signal);
  }
}

function checkSize({ narSize }: PathDescription, nar: KnownNar): void {
  if (nar.narSize !== narSize) throw invalid(`the NAR has ${nar.narSize} bytes, not ${narSize}`);
}
