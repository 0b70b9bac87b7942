import { FIELDS, isKey } from '../../nix/narinfo/fields.ts';
import { keyOf } from '../../nix/narinfo/lines.ts';
import type { NarInfo } from '../../nix/narinfo/narinfo.ts';
import { fingerprint } from '../../nix/signature.ts';
import type { StorePath } from '../../nix/store-path.ts';
import { mapAhead } from '../../util/async/iterables.ts';
import { asBuffer, latin1 } from '../../util/bytes.ts';
import { invalid, StoreError } from '../../util/errors.ts';
import { keepTree } from '../keeping/keep-tree.ts';
import type { KnownNar } from '../nar/index.ts';
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
 * Takes narinfos into a store whose NARs have been uploaded before, or were there. Nothing in them is believed
 * that can be checked.
 */
export class NarInfoTaker {
  readonly #store: Store;
  readonly #tables: UploadTables;
  /** Narinfos of one path go one after the other, so that no signature is lost. */
  readonly #running = new Map<string, Promise<unknown>>();

  constructor(store: Store, tables: UploadTables) {
    this.#store = store;
    this.#tables = tables;
  }

  /**
   * Puts a path info; it is durable when this resolves. Signatures of the same path that are there stay.
   * Throws INVALID_ARGUMENT for a narinfo that cannot be true, FAILED_PRECONDITION when references are missing.
   */
  async take(narInfo: NarInfo, signal?: AbortSignal): Promise<PathInfo> {
    const key = latin1(narInfo.storePath.hash);
    const before = this.#running.get(key);
    const work = (async () => {
      await before?.catch(() => {});
      return this.#take(narInfo, signal);
    })();
    this.#running.set(key, work);
    try {
      return await work;
    } finally {
      if (this.#running.get(key) === work) this.#running.delete(key);
    }
  }

  async #take(narInfo: NarInfo, signal?: AbortSignal): Promise<PathInfo> {
    const { storePath, references, narSha256, narSize, deriver, ca } = narInfo;
    await this.#checkReferences(narInfo, signal);
    const present = await this.#store.pathInfos.describe(storePath.hash, signal);
    const { node } = await this.#nar(narInfo, present, signal);
    if (ca && !isAddressOfPath(narInfo))
      throw invalid('the store path does not follow from the content address');
    const named = { node, narSha256, storePath, references };
    if (ca && !(await hasContentAddress(this.#store, named, ca, signal))) {
      throw invalid('the content address is not that of the contents');
    }
    const isSame = present && fingerprint(present) === fingerprint(narInfo);
    const signatures = unitedSignatures(isSame ? present.signatures : [], narInfo.signatures);
    await this.#tables.putLines(storePath.hash, linesBeside(narInfo));
    await this.#tables.store.writer.flush();
    return this.#store.pathInfos.put(
      { storePath, node, references, narSize, narSha256, signatures, deriver, ca },
      signal,
    );
  }

  async #checkReferences({ storePath, references }: NarInfo, signal?: AbortSignal): Promise<void> {
    const isThere = async (path: StorePath) => {
      if (asBuffer(path.hash).equals(storePath.hash)) return path.name === storePath.name;
      const found = await this.#store.pathInfos.describe(path.hash, signal);
      return found?.storePath.name === path.name;
    };
    const found = await Array.fromAsync(mapAhead(references, AT_ONCE, isThere));
    const missing = references.filter((_, i) => !found[i]);
    if (missing.length === 0) return;
    const shown = missing.slice(0, MAX_SHOWN).map((path) => path.absolute());
    const more = missing.length > MAX_SHOWN ? ` and ${missing.length - MAX_SHOWN} more` : '';
    throw new StoreError(
      'FAILED_PRECONDITION',
      `${storePath.absolute()} refers to what is not here: ${shown.join(', ')}${more}; upload that first`,
    );
  }

  /** Finds the tree that the NAR of a narinfo has become in the store. */
  async #nar(
    narInfo: NarInfo,
    present: PathDescription | undefined,
    signal?: AbortSignal,
  ): Promise<KnownNar> {
    const { storePath, narSha256, narSize } = narInfo;
    const { nars } = this.#tables;
    const known = nars.get(narSha256) ?? (await this.#present(narInfo, present, signal));
    if (!known) throw invalid(`the NAR of ${storePath.absolute()} is not here; upload that first`);
    if (known.narSize !== narSize) throw invalid(`the NAR has ${known.narSize} bytes, not ${narSize}`);
    if (await keepTree(this.#store, known.node, signal)) return known;
    await nars.forget(narSha256);
    throw invalid(`the NAR of ${storePath.absolute()} is not complete any more; upload it again`);
  }

  async #present(
    { storePath, narSha256 }: NarInfo,
    present: PathDescription | undefined,
    signal?: AbortSignal,
  ) {
    if (!present || !asBuffer(present.narSha256).equals(narSha256)) return undefined;
    return this.#store.pathInfos.get(storePath.hash, signal);
  }
}

/** The lines that a path info has no place for: other keys, the system, a deriver that is not known. */
function linesBeside(narInfo: NarInfo): string {
  const lines = narInfo.toString().split('\n').slice(0, -1);
  const beside = lines.filter((line) => {
    const key = keyOf(line);
    if (key === 'Deriver' || key === 'CA') return narInfo[FIELDS[key].name] === undefined;
    return key === 'System' || !isKey(key);
  });
  return beside.map((line) => `${line}\n`).join('');
}
