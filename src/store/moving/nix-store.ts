import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { CopyOptions } from '../../castore/copy/copier.ts';
import { importPath } from '../../castore/import/file-system.ts';
import { ParallelSha256 } from '../../nix/nar/parallel-sha256.ts';
import { NarWriter } from '../../nix/nar/writer.ts';
import { STORE_DIR, type StorePath } from '../../nix/store-path.ts';
import { asBuffer, collect } from '../../util/bytes.ts';
import { damaged, StoreError, systemCode } from '../../util/errors.ts';
import { parseNixJson } from '../path-info/nix-json.ts';
import type { PathDescription, PathInfo } from '../path-info/path-info.ts';
import type { PathInfoService } from '../path-info/service.ts';
import type { Store } from '../services.ts';
import { closureOf } from './closure.ts';
import type { CopyPathsOptions, CopyPlan } from './copy.ts';
import { inOrder, withoutPresent } from './copy.ts';
import { register } from './import.ts';

/** Room for the description of 100 000 store paths. */
export const MAX_JSON_LENGTH = 256 << 20;
const MAX_STDERR_LENGTH = 64 << 10;
/** Trees are read one after another; path infos are committed many at once. */
const AT_ONCE = 64;

/**
 * Asks Nix about store paths, or all it has, with all that they refer to if `closure`. `storeDir` is `/nix/store`, or the one
 * of a store that lies below another root.
 */
export async function askNix(
  storeDir: string,
  paths: readonly string[] | 'all',
  { closure = true, signal }: { closure?: boolean; signal?: AbortSignal } = {},
): Promise<PathDescription[]> {
  const root = storeDir.slice(0, -STORE_DIR.length);
  const args = [
    '--extra-experimental-features',
    'nix-command',
    '--offline',
    ...(root === '' ? [] : ['--store', root]),
    ...[
      'path-info',
      '--json',
      ...(closure ? ['-r'] : []),
      ...(paths === 'all' ? ['--all'] : ['--', ...paths]),
    ],
  ];
  return parseNixJson(await runNix(args, signal));
}

async function runNix(args: readonly string[], signal: AbortSignal | undefined): Promise<string> {
  const child = spawn('nix', args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
  try {
    const [stdout, stderr, [status]] = await Promise.all([
      collect(child.stdout, MAX_JSON_LENGTH),
      collect(child.stderr, MAX_STDERR_LENGTH),
      once(child, 'close'),
    ]);
    if (!stdout) throw new StoreError('RESOURCE_EXHAUSTED', 'nix printed more than this program takes');
    if (status === 0) return asBuffer(stdout).toString();
    const told = asBuffer(stderr ?? new Uint8Array()).toString();
    throw new StoreError('FAILED_PRECONDITION', `nix path-info failed: ${told.trim()}`);
  } catch (error) {
    signal?.throwIfAborted();
    if (systemCode(error) !== 'ENOENT') throw error;
    throw new StoreError(
      'FAILED_PRECONDITION',
      'nix is not in PATH, and only it knows the store paths of its store',
    );
  } finally {
    child.kill();
  }
}

/** Finds which of these store paths another store lacks. Throws NOT_FOUND for references that nobody has. */
export async function planImport(
  to: Pick<PathInfoService, 'describe'>,
  told: readonly PathDescription[],
  { closure = true, signal }: { closure?: boolean; signal?: AbortSignal } = {},
): Promise<CopyPlan> {
  const byName = new Map(told.map((path) => [String(path.storePath), path]));
  const { paths, missing } = await closureOf(
    [...byName.values()],
    async (path: StorePath) => byName.get(String(path)),
    signal,
  );
  return withoutPresent(to, { paths, missing: closure ? missing : [] }, signal);
}

/**
 * Copies store paths from a folder of real files: contents and NAR hash in one pass, and a path is named only if
 * the hash is what was told of it. Otherwise as `copyPaths`.
 */
export async function copyFromFiles(
  storeDir: string,
  to: Store,
  plan: CopyPlan,
  { onCopied, ...options }: CopyPathsOptions = {},
): Promise<void> {
  let last: Promise<unknown> = Promise.resolve();
  await inOrder(plan.paths, AT_ONCE, options.signal, {
    send(path, signal) {
      const one = last.then(() => readPath(storeDir, to, path, { ...options, signal }));
      last = one.catch(() => {});
      return one;
    },
    async name(info, signal) {
      await register(to, info, signal);
      onCopied?.(info);
    },
  });
}

async function readPath(
  storeDir: string,
  to: Store,
  path: PathDescription,
  { progress, onProgress, signal }: CopyOptions,
): Promise<PathInfo> {
  const sha256 = new ParallelSha256();
  try {
    signal?.throwIfAborted();
    const nar = new NarWriter(sha256);
    const before = progress?.bytes ?? 0;
    const node = await importPath(Buffer.from(join(storeDir, String(path.storePath))), to, {
      observer: nar,
      onProgress: () => {
        if (progress) progress.bytes = before + nar.size;
        onProgress?.();
      },
      ...(signal ? { signal } : {}),
    });
    nar.finish();
    if (BigInt(nar.size) !== path.narSize || !asBuffer(await sha256.digest()).equals(path.narSha256)) {
      throw damaged(
        `${join(storeDir, String(path.storePath))} does not have the NAR hash that is told of it`,
      );
    }
    return { ...path, node };
  } finally {
    sha256.close();
  }
}
