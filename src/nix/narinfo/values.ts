import type { ContentAddress } from '../content-address.ts';
import type { Hash } from '../hash.ts';
import type { Signature } from '../signature.ts';
import type { StorePath } from '../store-path.ts';

/** The values in a narinfo: a store path, and where a binary cache has its NAR. */
export interface NarInfoValues {
  readonly storePath: StorePath;
  /** Where the NAR is: relative to the cache, or absolute. */
  readonly url: string;
  /** How the file behind `url` is compressed; `none` when it is not. Never guessed from the URL. */
  readonly compression: string;
  /** Of the file behind `url`. */
  readonly fileHash?: Hash | undefined;
  readonly fileSize?: bigint | undefined;
  /** Of the NAR. */
  readonly narSha256: Uint8Array;
  readonly narSize: bigint;
  readonly references: readonly StorePath[];
  /** The derivation, without its `.drv`. */
  readonly deriver?: StorePath | undefined;
  readonly system?: string | undefined;
  readonly signatures: readonly Signature[];
  readonly ca?: ContentAddress | undefined;
}
