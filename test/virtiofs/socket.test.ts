import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Listener } from '../../src/util/system/unix-socket.ts';
import { listenUnix } from '../../src/util/system/unix-socket.ts';
import { CLI, start, tvixStore } from '../helpers/cli.ts';
import { FakeGuest } from '../helpers/fake-guest.ts';
import { tempDir } from '../helpers/temp.ts';
import { killLater, TestVirtiofs } from '../helpers/virtiofs.ts';

const STORE = ['--store', `local://${join(tempDir(), 'store')}`];

const refusal = async (socket: string, env = {}) => {
  const { status, stderr } = await tvixStore(['virtiofs', ...STORE, socket], {
    env: { ...process.env, ...env },
  });
  expect(status).toBe(1);
  return stderr;
};

/** Whether a guest can mount what is served there. */
const serves = async (socket: string): Promise<boolean> => {
  const guest = await FakeGuest.connect(socket);
  const { error } = await guest.init();
  guest.disconnect();
  return error === 0;
};

describe('the socket', () => {
  test('has the mode that is wanted, and goes with the process, which tells what it did', async () => {
    const server = await TestVirtiofs.start([...STORE, '--socket-mode', '0640']);
    expect(statSync(server.socket).mode & 0o777).toBe(0o640);
    expect(await serves(server.socket)).toBe(true);
    const { status, log } = await server.stop();
    expect(status).toBe(0);
    expect(log).toMatch(/info: stopped requests=\d+ kinds="init 1"/);
    expect(existsSync(server.socket)).toBe(false);
  });

  test('that a killed process left behind is replaced', async () => {
    const killed = await TestVirtiofs.start(STORE);
    killed.child.kill('SIGKILL');
    const server = await TestVirtiofs.start(STORE, killed.socket);
    expect(await serves(server.socket)).toBe(true);
    await server.stop();
  });

  test('that another process listens on is left alone', async () => {
    const server = await TestVirtiofs.start(STORE);
    expect(await refusal(server.socket)).toContain('something is there already');
    expect(await serves(server.socket)).toBe(true);
    await server.stop();
  });

  test('does not take the place of a file, or of nothing', async () => {
    const path = join(tempDir(), 'file');
    writeFileSync(path, '');
    expect(await refusal(path)).toContain('something is there already');
    expect(existsSync(path)).toBe(true);
    expect(await refusal(join(path, 'socket'))).toContain('not a directory');
  });

  test('can have an abstract name', async () => {
    const server = await TestVirtiofs.start(STORE, `@tvix-store-test-${process.pid}`);
    expect(await serves(server.socket)).toBe(true);
    await server.stop();
  });

  test('is for one guest at a time: the next waits for its turn', async () => {
    const server = await TestVirtiofs.start(STORE);
    const first = await FakeGuest.connect(server.socket);
    await first.init();
    let turn = false;
    const second = serves(server.socket).finally(() => {
      turn = true;
    });
    await server.logged('another guest has to wait');
    expect((await first.init()).error).toBe(0);
    expect(turn).toBe(false);
    first.disconnect();
    expect(await second).toBe(true);
    await server.stop();
  });
});

describe('a socket of systemd', () => {
  const listeners: Listener[] = [];

  afterAll(() => {
    for (const listener of listeners) listener.close();
  });

  const listening = async () => {
    const path = join(tempDir(), 'socket');
    const listener = await listenUnix({ kind: 'unix', path }, {});
    listeners.push(listener);
    return { path, fd: listener.fd };
  };

  /** Starts it with listening sockets from the third descriptor on, as systemd does. */
  const inherit = (socket: string, fds: readonly number[], names: string) => {
    const program = [process.execPath, CLI, 'virtiofs', ...STORE, socket];
    return start('sh', ['-c', 'export LISTEN_PID=$$; exec "$@"', 'sh', ...program], 'info: listening', {
      stdio: ['ignore', 'ignore', 'pipe', ...fds],
      env: { ...process.env, LISTEN_FDS: String(fds.length), LISTEN_FDNAMES: names },
    });
  };

  test('is taken, by its name if there are several', async () => {
    const [one, other] = [await listening(), await listening()];
    for (const [socket, fds] of [
      ['sd-listen', [other.fd]],
      ['sd-listen:mine', [one.fd, other.fd]],
    ] as const) {
      const child = await inherit(socket, fds, 'theirs:mine');
      killLater(child);
      expect(await serves(other.path)).toBe(true);
      child.kill('SIGTERM');
      await new Promise((resolve) => child.once('exit', resolve));
      expect(existsSync(other.path)).toBe(true);
    }
  });

  test('is missed when there is none, or which of several is not said', async () => {
    expect(await refusal('sd-listen')).toContain('systemd passed no sockets');
    const fds = [(await listening()).fd, (await listening()).fd];
    await expect(inherit('sd-listen', fds, 'a:b')).rejects.toThrow('several sockets');
  });
});
