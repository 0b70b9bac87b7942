import type { Directory } from '../castore/directory.ts';
import type { DirectoryNode, FileNode, Node } from '../castore/node.ts';
import { decodeBase32 } from '../nix/base32.ts';
import { STORE_DIR, StorePath } from '../nix/store-path.ts';
import { damaged, invalid, StoreError } from '../util/errors.ts';
import type { PathDescription, PathInfo } from './path-info/path-info.ts';
import type { Services } from './services.ts';

/** A file, directory or link that a person named by its path. */
export interface FoundNode {
  readonly info: PathInfo;
  /** Path below the store path, without slashes at its ends; empty for the root. */
  readonly subPath: string;
  readonly node: Node;
}

/**
 * Finds what an argument `STORE_PATH[/SUB]` names: with or without `/nix/store/`, and a bare hash will do.
 * Throws NOT_FOUND and INVALID_ARGUMENT.
 */
export async function resolveNode(services: Services, argument: string): Promise<FoundNode> {
  const text = argument.startsWith(`${STORE_DIR}/`) ? argument.slice(STORE_DIR.length + 1) : argument;
  const slash = text.indexOf('/');
  const base = slash < 0 ? text : text.slice(0, slash);
  const info = await findPathInfo(services, base);
  const steps =
    slash < 0
      ? []
      : text
          .slice(slash + 1)
          .split('/')
          .filter((step) => step !== '' && step !== '.');
  let node = info.node;
  for (const [i, step] of steps.entries()) {
    const next = node.kind === 'directory' && (await child(services, node, step));
    if (!next)
      throw new StoreError(
        'NOT_FOUND',
        `${info.storePath.absolute()} has no ${steps.slice(0, i + 1).join('/')}`,
      );
    node = next;
  }
  return { info, subPath: steps.join('/'), node };
}

/** The path info of `<hash>-<name>` or of a bare hash. */
export function findPathInfo(services: Services, base: string): Promise<PathInfo> {
  return find(base, (hash) => services.pathInfos.get(hash));
}

/** The path infos of arguments that name whole store paths. Throws NOT_FOUND. */
export function findStorePaths({ pathInfos }: Services, names: readonly string[]): Promise<PathInfo[]> {
  return Promise.all(names.map((name) => find(baseOf(name), (hash) => pathInfos.get(hash))));
}

/** The path info of an argument that names a whole store path; `undefined` when that is not there. */
export function lookUpPathInfo({ pathInfos }: Services, name: string): Promise<PathInfo | undefined> {
  return lookUp(baseOf(name), (hash) => pathInfos.get(hash));
}

/** What is known of a store path without its contents; `/nix/store/` may be left out. */
export function describePath(services: Services, name: string): Promise<PathDescription> {
  return find(baseOf(name), (hash) => services.pathInfos.describe(hash));
}

function baseOf(name: string): string {
  return name.replace(new RegExp(`^${STORE_DIR}/`), '').replace(/\/+$/, '');
}

async function find<T extends PathDescription>(base: string, get: Get<T>): Promise<T> {
  const info = await lookUp(base, get);
  if (!info) throw new StoreError('NOT_FOUND', `${STORE_DIR}/${base} is not in the store`);
  return info;
}

type Get<T> = (hash: Uint8Array) => Promise<T | undefined>;

async function lookUp<T extends PathDescription>(base: string, get: Get<T>): Promise<T | undefined> {
  if (/^[0-9a-df-np-sv-z]{32}$/.test(base)) return get(decodeBase32(base));
  const path = StorePath.parse(base);
  const info = await get(path.hash);
  return info?.storePath.name === path.name ? info : undefined;
}

async function child(services: Services, node: DirectoryNode, name: string): Promise<Node | undefined> {
  if (name === '..') throw invalid('".." cannot be used inside a store path');
  const directory = await fetchDirectory(services, node);
  const index = directory.find(Buffer.from(name));
  return index < 0 ? undefined : directory.node(index);
}

/** Throws DATA_LOSS when the directory is missing. */
export async function fetchDirectory(services: Services, node: DirectoryNode): Promise<Directory> {
  const directory = await services.directories.get(node.digest);
  if (!directory) throw damaged(`directory ${node.digest} is missing`);
  return directory;
}

/** The contents of a file. Throws DATA_LOSS when they are missing. */
export async function fileContents(
  { blobs }: Pick<Services, 'blobs'>,
  { digest, size }: FileNode,
  signal?: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const contents = await blobs.read(digest, { size: Number(size), signal });
  if (!contents) throw damaged(`blob ${digest} is missing`);
  return contents;
}
