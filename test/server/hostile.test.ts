import { readFileSync } from 'node:fs';
import { get } from 'node:https';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { CLI, run, start } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { asDaemon, openAt, startDaemon, startNarBridge } from '../helpers/daemon.ts';
import type { Random } from '../helpers/hostile-client.ts';
import { attack, badGrpc, badHttp, badTls } from '../helpers/hostile-client.ts';
import { randomBytes, randomNumbers, SEED } from '../helpers/random.ts';
import { readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const ATTACK_MS = 3000;
const ATTACKERS = 16;

/** Attacks a server for a while from many connections at once, and meanwhile has it used. */
async function survives(
  server: TestDaemon,
  attackOnce: (random: Random) => Promise<void>,
  use: (round: number) => Promise<void>,
): Promise<void> {
  const until = performance.now() + ATTACK_MS;
  const attacker = async (i: number) => {
    const random = randomNumbers(SEED + i);
    while (performance.now() < until) await attackOnce(random);
  };
  const user = async () => {
    for (let round = 0; performance.now() < until; round++) {
      await use(round);
      await delay(50);
    }
  };
  const attackers = Array.from({ length: ATTACKERS }, (_, i) => attacker(i));
  const [used] = await Promise.allSettled([user(), ...attackers]);
  const { exitCode, signalCode } = server.child;
  expect({ exitCode, signalCode }, `TEST_SEED=${SEED}\n${server.log()}`).toEqual({
    exitCode: null,
    signalCode: null,
  });
  if (used.status === 'rejected') throw used.reason;
  await use(-1);
  expect(linesThatAreNoWarnings(server), `TEST_SEED=${SEED}`).toEqual([]);
  expect(await server.stop()).toBe(0);
}

/** Refused requests may be logged, in a line each; a stack would be a fault that nobody foresaw. */
function linesThatAreNoWarnings(server: TestDaemon): string[] {
  const lines = server.log().split('\n');
  return lines.filter((line) => !/^((debug|info|warn): |$)/.test(line));
}

async function usingBlobs(url: string) {
  const store = await openAt(url);
  return {
    async use(round: number) {
      const contents = randomBytes(10_000, `round ${round}`);
      const { digest } = await store.blobs.put(contents);
      expect((await readBlob(store, digest))?.equals(contents)).toBe(true);
    },
    close: () => store.close(),
  };
}

test('a daemon lives through bad clients, and serves the others', async () => {
  const daemon = await startDaemon('memory://');
  const { use, close } = await usingBlobs(daemon.url);
  const at = { port: daemon.port, host: '127.0.0.1' };
  await survives(daemon, (random) => attack(random, at, badGrpc(random)), use);
  await close();
});

/** A certificate of this machine, and its key. */
async function certificate(): Promise<{ key: string; cert: string; flags: string[] }> {
  const dir = tempDir();
  const [key, cert] = [`${dir}/key.pem`, `${dir}/cert.pem`];
  const subject = ['-subj', '/CN=x', '-addext', 'subjectAltName=DNS:localhost', '-days', '2'];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const made = await run('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', cert]);
  expect(made.status, made.stderr).toBe(0);
  return { key, cert, flags: ['--tls-cert', cert, '--tls-key', key] };
}

test('a daemon with TLS lives through bad clients, before the handshake and behind it', async () => {
  const { cert, flags } = await certificate();
  const daemon = await startDaemon('memory://', '127.0.0.1:0', flags);
  const { use, close } = await usingBlobs(`grpc+https://localhost:${daemon.port}?ca=${cert}`);
  const at = { port: daemon.port, host: '127.0.0.1' };
  const attackOnce = (random: Random) =>
    random() < 0.5 ? attack(random, at, badTls(random)) : attack(random, at, badGrpc(random), true);
  await survives(daemon, attackOnce, use);
  await close();
});

test('a binary cache with TLS does as well', async () => {
  const { cert, flags } = await certificate();
  const bridge = await startNarBridge('memory://', '127.0.0.1:0', flags);
  const at = { port: bridge.port, host: '127.0.0.1' };
  const ca = readFileSync(cert);
  const use = () =>
    new Promise<void>((resolve, reject) => {
      const asked = get(`https://localhost:${bridge.port}/nix-cache-info`, { ca }, (answer) => {
        text(answer).then((told) => {
          expect(told).toContain('StoreDir: /nix/store');
          resolve();
        }, reject);
      });
      asked.on('error', reject);
    });
  const attackOnce = (random: Random) =>
    random() < 0.5 ? attack(random, at, badTls(random)) : attack(random, at, badHttp(random), true);
  await survives(bridge, attackOnce, use);
});

test('a binary cache lives through bad clients, and serves the others', async () => {
  const bridge = await startNarBridge('memory://');
  const at = { port: bridge.port, host: '127.0.0.1' };
  const use = async () => {
    const response = await fetch(`http://127.0.0.1:${bridge.port}/nix-cache-info`);
    expect(await response.text()).toContain('StoreDir: /nix/store');
  };
  await survives(bridge, (random) => attack(random, at, badHttp(random)), use);
});

test.each(['daemon', 'nar-bridge'])(
  'a %s that has no file descriptors left serves again when it has',
  async (command) => {
    const limited = 'ulimit -n 64; exec "$@"';
    const args = [
      '-c',
      limited,
      'sh',
      process.execPath,
      CLI,
      command,
      '--store',
      'memory://',
      '-l',
      '127.0.0.1:0',
      '--allow-anonymous-upload',
    ];
    const server = asDaemon(await start('sh', args, 'info: listening'));
    const sockets = Array.from({ length: 200 }, () => connect(server.port, '127.0.0.1'));
    for (const socket of sockets) socket.on('error', () => {});
    await delay(500);
    for (const socket of sockets) socket.destroy();
    if (command === 'daemon') {
      const { use, close } = await usingBlobs(server.url);
      await use(0);
      await close();
    } else {
      // A connection that comes while the others are being closed may still be dropped.
      const health = async () => (await fetch(`http://127.0.0.1:${server.port}/health`)).text();
      await vi.waitFor(async () => expect(await health()).toBe('serving\n'), 30_000);
    }
    expect(server.child.exitCode, server.log()).toBe(null);
    expect(linesThatAreNoWarnings(server)).toEqual([]);
    expect(await server.stop()).toBe(0);
  },
);
