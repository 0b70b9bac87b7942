import type { Node } from '../node.ts';

/** Progress of a copy. */
export interface CopyProgress {
  /** Files and directories looked at. */
  objects: number;
  /** Bytes of contents that were not there. */
  bytes: number;
}

export interface CopyOptions {
  readonly progress?: CopyProgress | undefined;
  readonly onProgress?: (() => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Copies trees from one place to another: what is there already does not go again. */
export interface TreeCopier {
  /**
   * Copies a tree, contents before what names them. Visible and durable once the target has been flushed.
   * Throws DATA_LOSS when a part of it is missing or damaged.
   */
  copy(root: Node, signal?: AbortSignal): Promise<void>;
}

/** Tells of so many bytes that have been copied, or with 0 of an object that has been looked at. */
export function tell({ progress, onProgress }: CopyOptions, bytes: number): void {
  if (progress) {
    if (bytes > 0) progress.bytes += bytes;
    else progress.objects++;
  }
  onProgress?.();
}
