import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Result } from '../helpers/cli.ts';
import { CLI, ROOT } from '../helpers/cli.ts';
import { S3_DIR, S3_SERVER } from '../helpers/s3-global.ts';
import type { Block } from './markdown.ts';
import { allBlocks } from './markdown.ts';

/** Where pages put everything. */
const EXAMPLE = '/tmp/example';

/** What a block may need (`needs=nix`), and the command that shows whether it is there. */
const NEEDS: Record<string, readonly string[]> = {
  nix: ['nix', '--version'],
  'local-overlay': [
    'nix-instantiate',
    '--eval',
    '-E',
    'assert builtins.compareVersions builtins.nixVersion "2.22" >= 0; true',
  ],
  openssl: ['openssl', 'version'],
  curl: ['curl', '--version'],
  python3: ['python3', '--version'],
  grpcurl: [join(ROOT, 'scripts/grpcurl')],
  'systemd-analyze': ['systemd-analyze', '--version'],
  s3: [S3_SERVER, 'start', process.env[S3_DIR]!],
};

/** Why a block does not run here; `undefined` when it does. */
export function whyNot({ words }: Block): string | undefined {
  for (const word of words) {
    const [key, value = ''] = word.split(/=(.*)/s);
    if (key === 'not-run') return value;
    if (key !== 'needs') continue;
    const command = NEEDS[value];
    if (!command) throw new Error(`what is ${word}? known are ${Object.keys(NEEDS).join(', ')}`);
    if (output(command) === undefined) return `there is no ${value} here`;
  }
  return undefined;
}

const said = new Map<string, string | undefined>();

/** What a command prints; `undefined` when it fails. */
function output(line: readonly string[]): string | undefined {
  const key = line.join(' ');
  if (!said.has(key)) {
    const [command, ...args] = line;
    const { status, stdout } = spawnSync(command!, args, { encoding: 'utf8', timeout: 500_000 });
    said.set(key, status === 0 ? stdout.trim() : undefined);
  }
  return said.get(key);
}

/**
 * The commands of a page as a script whose lines have the numbers that they have in the page. A block with `file=` in
 * its info string becomes that file.
 */
export function scriptOf(page: string): string {
  const lines = page.split('\n').map(() => '');
  for (const block of allBlocks(page)) {
    const file = block.words.find((word) => word.startsWith('file='))?.slice('file='.length);
    if ((block.language !== 'sh' && file === undefined) || whyNot(block) !== undefined) continue;
    const body = block.text.split('\n').slice(0, -1);
    lines.splice(block.line - 1, body.length, ...body);
    if (file === undefined) continue;
    lines[block.line - 2] = `cat >${file} <<'END-OF-BLOCK'`;
    lines[block.line - 1 + body.length] = 'END-OF-BLOCK';
  }
  lines[0] = `set -eEuo pipefail; trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR`;
  return lines.join('\n');
}

/** Runs the commands of a page, in a sandbox below `dir`, as somebody would who copies them one after the other. */
export async function runPage(page: string, dir: string): Promise<Result> {
  const example = join(dir, 'example');
  mkdirSync(join(dir, 'bin'));
  mkdirSync(example);
  symlinkSync(CLI, join(dir, 'bin/tvix-store'));
  const grpcurl = output(NEEDS.grpcurl!);
  if (grpcurl !== undefined) symlinkSync(grpcurl, join(dir, 'bin/grpcurl'));
  let script = scriptOf(page).replaceAll(EXAMPLE, example);
  const ports = new Set([...script.matchAll(/(?<=(?:127\.0\.0\.1|localhost):)\d+/g)].map(([port]) => port));
  for (const port of ports) script = script.replaceAll(`:${port}`, `:${await freePort()}`);
  writeFileSync(join(dir, 'script'), script);
  const { TVIX_STORE: _, ...inherited } = process.env;
  const child = spawn('bash', [join(dir, 'script')], {
    cwd: ROOT,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 500_000,
    env: {
      ...inherited,
      HOME: dir,
      XDG_DATA_HOME: join(dir, 'data'),
      XDG_STATE_HOME: join(dir, 'state'),
      PATH: [join(dir, 'bin'), dirname(process.execPath), process.env.PATH].join(delimiter),
    },
  });
  try {
    const ended = once(child, 'exit');
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    const [status] = await ended;
    // Logs of what ran in the background may lie outside of the sandbox.
    for (const [, log] of stderr.matchAll(/ log=(\S+)/g)) rmSync(log!, { force: true });
    return { status, stdout, stderr };
  } finally {
    endAll(dir);
  }
}

/** Ends what a failed page left: mounts in the sandbox, and processes that were started for it. */
function endAll(dir: string): void {
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
    const [, mountPoint = ''] = line.split(' ');
    if (mountPoint.startsWith(`${dir}/`)) spawnSync('umount', ['-l', mountPoint]);
  }
  const { stdout } = spawnSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' });
  for (const [, pid, args = ''] of stdout.matchAll(/^ *(\d+) (.*)$/gm)) {
    if (args.includes(`${dir}/`) && Number(pid) !== process.pid) process.kill(Number(pid), 'SIGKILL');
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address ? address.port : 0;
}
