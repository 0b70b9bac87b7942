import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { spawn } from 'node:child_process';
import { STORE_DIR, StorePath } from '../../nix/store-path.ts';
import type { Operation } from '../../nix/worker/protocol.ts';
import { CLIENT_MAGIC, DAEMON_MAGIC, MESSAGE, OPERATION, REPLY, SINCE } from '../../nix/worker/protocol.ts';
import { WireReader } from '../../nix/worker/reader.ts';
import { WireWriter } from '../../nix/worker/writer.ts';
import { reasonOf, StoreError } from '../../util/errors.ts';
import type { PathDescription } from '../path-info/path-info.ts';
import { readDescription, readPaths } from '../path-info/worker.ts';

/** How long Nix may take for an answer, in milliseconds: a list of all it has takes a while. */
const ANSWER_MS = 60_000;
/** Most fields of a message about what it is doing. */
const MAX_FIELDS = 64;

/** Asks the Nix of this machine about its store, by the protocol of its daemon. One question after the other. */
export class NixClient {
  readonly #root: string;
  #session: Promise<Session> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** `root` is below what the store lies, `''` for the machine's own. */
  constructor(root: string) {
    this.#root = root;
  }

  /** `undefined` when the path is not there. */
  async describe(hashText: string): Promise<PathDescription | undefined> {
    const path = await this.#ask(
      'QueryPathFromHashPart',
      (to) => to.text(hashText),
      (from) => from.text(),
    );
    if (path === '') return undefined;
    const storePath = StorePath.parseAbsolute(path);
    return this.#ask(
      'QueryPathInfo',
      (to) => to.text(path),
      async (from) => ((await from.flag()) ? readDescription(from, storePath) : undefined),
    );
  }

  all(): Promise<StorePath[]> {
    return this.#ask('QueryAllValidPaths', () => {}, readPaths);
  }

  async close(): Promise<void> {
    (await this.#session?.catch(() => undefined))?.end();
  }

  #ask<T>(
    operation: Operation,
    write: (to: WireWriter) => void,
    read: (from: WireReader) => Promise<T>,
  ): Promise<T> {
    const answer = this.#last.then(async () => {
      this.#session ??= Session.start(this.#root);
      const session = this.#session;
      try {
        return await (await session).ask(operation, write, read);
      } catch (error) {
        // Whatever is left of it is of no use; the next question goes to another one.
        this.#session = undefined;
        session.then((one) => one.end()).catch(() => {});
        throw error;
      }
    });
    this.#last = answer.catch(() => {});
    return answer;
  }
}

/** A `nix-daemon --stdio` that has been greeted. */
class Session {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #from: WireReader;
  readonly #to = new WireWriter();
  #said = '';

  private constructor(root: string) {
    const env = root === '' ? process.env : { ...process.env, NIX_REMOTE: root };
    this.#child = spawn('nix-daemon', ['--stdio'], { env, cwd: '/', stdio: 'pipe' });
    this.#child.stdin.on('error', () => {});
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-1000);
    });
    this.#from = new WireReader(this.#child.stdout[Symbol.asyncIterator]());
  }

  static async start(root: string): Promise<Session> {
    const session = new Session(root);
    await session.#inTime(() => session.#greet());
    return session;
  }

  ask<T>(
    operation: Operation,
    write: (to: WireWriter) => void,
    read: (from: WireReader) => Promise<T>,
  ): Promise<T> {
    return this.#inTime(async () => {
      write(this.#to.number(OPERATION[operation]));
      this.#send();
      this.#from.begin();
      await this.#untilAnswer();
      return read(this.#from);
    });
  }

  end(): void {
    this.#child.kill();
  }

  async #greet(): Promise<void> {
    this.#to.number(CLIENT_MAGIC).number(SINCE.TRUST);
    this.#send();
    if ((await this.#from.number()) !== DAEMON_MAGIC)
      throw new StoreError('UNAVAILABLE', 'it does not answer as Nix');
    const version = Math.min(await this.#from.count('the version'), SINCE.TRUST);
    // No processor to be pinned to, and no space to be reserved.
    this.#to.number(0).number(0);
    this.#send();
    await this.#from.text();
    if (version >= SINCE.TRUST) await this.#from.number();
    await this.#untilAnswer();
  }

  #send(): void {
    this.#child.stdin.write(this.#to.take());
  }

  /** Reads what Nix says on the way. Throws what it says is wrong. */
  async #untilAnswer(): Promise<void> {
    for (;;) {
      const kind = await this.#from.count('the kind of a message');
      if (kind === REPLY.LAST) return;
      if (kind === REPLY.ERROR) {
        await this.#from.text();
        await this.#from.number();
        await this.#from.text();
        throw new StoreError('FAILED_PRECONDITION', await this.#from.text());
      }
      if (kind === MESSAGE.NEXT) await this.#from.text();
      else if (kind === MESSAGE.START) {
        for (let i = 0; i < 3; i++) await this.#from.number();
        await this.#from.text();
        await this.#fields();
        await this.#from.number();
      } else if (kind === MESSAGE.STOP) await this.#from.number();
      else if (kind === MESSAGE.RESULT) {
        for (let i = 0; i < 2; i++) await this.#from.number();
        await this.#fields();
      } else throw new StoreError('UNAVAILABLE', `it says something that is not understood: ${kind}`);
    }
  }

  async #fields(): Promise<void> {
    const count = await this.#from.count('the number of fields', MAX_FIELDS);
    for (let i = 0; i < count; i++) {
      if (await this.#from.flag()) await this.#from.text();
      else await this.#from.number();
    }
  }

  async #inTime<T>(work: () => Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const failed = new Promise<never>((_, reject) => {
      this.#child.once('error', (error) => reject(new Error(`nix-daemon cannot be run: ${reasonOf(error)}`)));
      timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS / 1000} s`)), ANSWER_MS);
    });
    failed.catch(() => {});
    try {
      return await Promise.race([work(), failed]);
    } catch (error) {
      const why = this.#said.trim() || reasonOf(error);
      throw new StoreError(
        'FAILED_PRECONDITION',
        `Nix does not tell about its store (${STORE_DIR}): ${why}`,
        {
          cause: error,
        },
      );
    } finally {
      clearTimeout(timer);
      this.#child.removeAllListeners('error').on('error', () => {});
    }
  }
}
