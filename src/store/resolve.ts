import type { Directory } from '../castore/directory.ts';
import type { DirectoryNode, FileNode, Node } from '../castore/node.ts';
import { damaged, StoreError } from '../util/errors.ts';
import type { NamedPath, NamedPlace } from './named-path.ts';
import type { PathDescription, PathInfo } from './path-info/path-info.ts';
import type { Services } from './services.ts';

/** A file, directory or link that a person named by its path. */
export interface FoundNode {
  readonly info: PathInfo;
  /** Path below the store path, without slashes at its ends; empty for the root. */
  readonly subPath: string;
  readonly node: Node;
}

/** Finds a place in the store that a person named. Throws NOT_FOUND. */
export async function resolveNode(services: Services, { path, steps }: NamedPlace): Promise<FoundNode> {
  const info = await findPathInfo(services, path);
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

/** The path info of a store path that a person named. Throws NOT_FOUND. */
export async function findPathInfo(services: Services, path: NamedPath): Promise<PathInfo> {
  return there(await lookUpPathInfo(services, path), path);
}

/** The path info of a store path that a person named; `undefined` when that is not there. */
export async function lookUpPathInfo(
  { pathInfos }: Services,
  path: NamedPath,
): Promise<PathInfo | undefined> {
  return meant(await pathInfos.get(path.hash), path);
}

/** The description of a store path, without its contents. Throws NOT_FOUND. */
export async function describePath({ pathInfos }: Services, path: NamedPath): Promise<PathDescription> {
  return there(meant(await pathInfos.describe(path.hash), path), path);
}

function meant<T extends PathDescription>(info: T | undefined, { name }: NamedPath): T | undefined {
  return name === undefined || name === info?.storePath.name ? info : undefined;
}

function there<T>(info: T | undefined, { shown }: NamedPath): T {
  if (!info) throw new StoreError('NOT_FOUND', `${shown} is not in the store`);
  return info;
}

async function child(services: Services, node: DirectoryNode, name: string): Promise<Node | undefined> {
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
