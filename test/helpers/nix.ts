import type { SpawnOptions } from 'node:child_process';
import { spawn, spawnSync } from 'node:child_process';
import { buffer, text } from 'node:stream/consumers';
import { describe } from 'vitest';
import { tempDir } from './temp.ts';

/** The real Nix, the judge of what we speak (Debian: `apt-get install nix-bin`). */
const FOUND = spawnSync('nix', ['--version'], { timeout: 60_000, encoding: 'utf8' });

/** Its version, as a number: 2.08 for 2.8. */
export const NIX_VERSION = Number(
  (/ (\d+\.\d+)/.exec(FOUND.stdout ?? '')?.[1] ?? '0').replace(/\.(\d)$/, '.0$1'),
);

/** Declares tests that need a real Nix; skipped, by a name that says so, where there is none. */
export function describeNix(name: string, declare: () => void): void {
  if (FOUND.status === 0) describe(name, declare);
  else describe.skip(`${name} (no nix in PATH)`, declare);
}

/**
 * Settings with which Nix keeps to itself: a home of its own, no substituters, builders that run without root
 * and without a sandbox. In a chroot store it sandboxes all the same, hence the paths that `/bin/sh` needs.
 */
const NIX_CONFIG = `experimental-features = nix-command ca-derivations
build-users-group =
substituters =
sandbox = false
sandbox-paths = /bin=/usr/bin /usr /lib=/usr/lib /lib64=/usr/lib64
`;

/** What Nix tells of a store path. What there is none of is left out up to Nix 2.18, null later. */
export interface NixPathInfo {
  readonly path: string;
  readonly ca?: string | null;
  readonly deriver?: string | null;
  readonly narHash: string;
  readonly narSize: number;
  readonly references: string[];
  readonly signatures?: string[];
}

/** A user of Nix with a home of its own, in a temporary folder, that has this in its configuration. */
export class NixUser {
  readonly home = tempDir();
  readonly env: NodeJS.ProcessEnv;

  constructor(config = '') {
    this.env = { PATH: process.env.PATH, HOME: this.home, NIX_CONFIG: NIX_CONFIG + config };
  }

  /** Runs a command of Nix, with something as its standard input; whatever becomes of it. */
  async try(command: string, args: readonly string[], options: SpawnOptions & { input?: Uint8Array } = {}) {
    const { input, ...rest } = options;
    const child = spawn(command, args, { stdio: 'pipe', timeout: 120_000, env: this.env, ...rest });
    const ended = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    // A program that ends before it has read everything is judged by its exit code.
    child.stdin!.on('error', () => {});
    child.stdin!.end(input);
    const [stdout, stderr, status] = await Promise.all([buffer(child.stdout!), text(child.stderr!), ended]);
    return { status, stdout, stderr };
  }

  /** Runs a command of Nix that must succeed; gives its standard output. */
  async run(command: string, args: readonly string[], options?: SpawnOptions & { input?: Uint8Array }) {
    const { status, stdout, stderr } = await this.try(command, args, options);
    if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}: ${stderr}`);
    return stdout;
  }

  /** What `nix path-info --json` tells of paths. Up to Nix 2.18 that is a list, later an object by store path. */
  async pathInfos(args: readonly string[]): Promise<NixPathInfo[]> {
    const told = (await this.run('nix', ['path-info', '--json', ...args])).toString();
    const infos: NixPathInfo[] | Record<string, Omit<NixPathInfo, 'path'>> = JSON.parse(told);
    return Array.isArray(infos) ? infos : Object.entries(infos).map(([path, info]) => ({ path, ...info }));
  }
}
