import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const CLIENT = fileURLToPath(new URL('./client.mjs', import.meta.url));
const LONGEST_MS = 180_000;

/** What we started and what has not ended yet. */
const commands = new Set();
const services = new Set();
let stopping = false;

/** Runs a command to its end and returns what it printed, without the last newline. */
export async function run(command, args) {
  refuseWhenStopping();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: LONGEST_MS });
  commands.add(child);
  child.once('close', () => commands.delete(child));
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${lastLine(stderr) || `exit ${code}`}`);
  return stdout.trimEnd();
}

/** Median seconds of one pass of `client.mjs`. */
export async function client(operation, { rehearsal, root, list, passes }) {
  return Number(await run(process.execPath, [CLIENT, operation, rehearsal, root, list, String(passes)]));
}

/** Imports a path into a store, a folder or an address, and returns its base name there. */
export async function importPath(store, path) {
  const storePath = await run(process.execPath, [CLI, 'import', '--store', addressOf(store), path]);
  return storePath.slice('/nix/store/'.length);
}

/** Runs one of our commands to its end. */
export function tvixStore(args) {
  return run(process.execPath, [CLI, ...args]);
}

/** A command of ours, or another program, in a process of its own, which works until it is told to stop. */
export class Service {
  #process;
  #log = '';

  /** Resolves when the log has a line that begins with `ready`. */
  async launch(args, ready, program) {
    refuseWhenStopping();
    const [command, all] = program ? [program, args] : [process.execPath, [CLI, ...args]];
    this.#process = spawn(command, all, { stdio: ['ignore', 'ignore', 'pipe'] });
    services.add(this);
    await new Promise((resolve, reject) => {
      this.#process.stderr.setEncoding('utf8').on('data', (data) => {
        this.#log += data;
        const begun = this.#log.indexOf(ready);
        if (begun >= 0 && this.#log.includes('\n', begun)) resolve();
      });
      this.#process.once('close', () => {
        services.delete(this);
        reject(new Error(lastLine(this.#log)));
      });
    });
  }

  get pid() {
    return this.#process.pid;
  }

  get log() {
    return this.#log;
  }

  /** Waits for the process to end. */
  async stop() {
    if (!services.has(this)) return;
    const closed = once(this.#process, 'close');
    this.#process.kill('SIGTERM');
    const tooLong = setTimeout(() => this.kill(), 10_000);
    await closed;
    clearTimeout(tooLong);
  }

  kill() {
    this.#process.kill('SIGKILL');
  }
}

/** A mount of a store. */
export class Mount extends Service {
  /** Resolves when the mount is ready. The store is a folder or an address; the cache is a new one. */
  static async start(store, point, flags) {
    const mount = new Mount();
    mkdirSync(point, { recursive: true });
    mount.point = point;
    const stores = ['--store', addressOf(store), '--cache', `${point}.cache`];
    await mount.launch(['mount', ...stores, ...flags, point], 'info: mounted');
    return mount;
  }

  /** How many requests it answered, if it counts them; known once it has stopped. */
  get requests() {
    const count = /info: unmounted requests=(\d+)/.exec(this.log)?.[1];
    return count === undefined ? undefined : Number(count);
  }

  kill() {
    super.kill();
    if (spawnSync('umount', ['-l', this.point]).status !== 0) spawnSync('fusermount3', ['-uz', this.point]);
  }
}

/** Ends everything that was started; nothing starts afterwards. */
export async function stopEverything() {
  stopping = true;
  for (const child of commands) child.kill();
  await Promise.all([...commands].map((child) => once(child, 'close')));
  // What was started last relies on what was started before: a mount on its daemon.
  for (const service of [...services].reverse()) await service.stop();
}

function addressOf(store) {
  return store.startsWith('/') ? `local://${store}` : store;
}

function refuseWhenStopping() {
  if (stopping) throw new Error('the bench is stopping');
}

async function text(stream) {
  let all = '';
  for await (const data of stream.setEncoding('utf8')) all += data;
  return all;
}

function lastLine(log) {
  return log.trimEnd().split('\n').at(-1);
}
