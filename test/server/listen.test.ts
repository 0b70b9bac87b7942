import { existsSync, lstatSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import type { Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { tvix } from '../../src/proto/messages.ts';
import { listen } from '../../src/server/listen.ts';
import { CLI, run, start, startTvixStore, tvixStore } from '../helpers/cli.ts';
import { asDaemon, openAt, startDaemon } from '../helpers/daemon.ts';
import { HAS_IPV6 } from '../helpers/network.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { answered, RawClient } from '../helpers/raw-grpc.ts';
import { codeOf, localStore, readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const { BlobChunk, PutBlobResponse } = tvix.castore.v1;
const STAT = '/snix.castore.v1.BlobService/Stat';
const PUT_BLOB = '/snix.castore.v1.BlobService/Put';
const WINDOW = 8 << 20;
/** As long as a fast stop may take on a busy machine, in milliseconds. */
const SOON_MS = 3000;

/** Puts a blob and gets it back, so that what listens is a daemon. */
async function worksAt(address: string): Promise<void> {
  const store = await openAt(address);
  try {
    const { digest } = await store.blobs.put(Buffer.from(address));
    expect((await readBlob(store, digest))?.toString()).toBe(address);
  } finally {
    await store.close();
  }
}

/** What a daemon says that does not start; 1 is for a failure, 2 for wrong usage. */
async function refusal(...args: string[]): Promise<string> {
  const { status, stderr } = await tvixStore(['daemon', '--store', 'memory://', ...args]);
  expect([1, 2], stderr).toContain(status);
  expect(stderr).toMatch(/^error: [^\n]*\n(\(see [^\n]*\)\n)?$/);
  return stderr;
}

describe('listening on TCP', () => {
  test('on an address of version 4', async () => {
    const daemon = await startDaemon('memory://', '127.0.0.1:0');
    expect(daemon.at).toMatch(/^127\.0\.0\.1:\d+$/);
    await worksAt(daemon.url);
    expect(await daemon.stop()).toBe(0);
  });

  test.runIf(HAS_IPV6)('on an address of version 6', async () => {
    const daemon = await startDaemon('memory://', '[::1]:0');
    expect(daemon.at).toMatch(/^\[::1\]:\d+$/);
    await worksAt(daemon.url);
    expect(await daemon.stop()).toBe(0);
  });

  test.runIf(HAS_IPV6)('on all of both', async () => {
    const daemon = await startDaemon('memory://', '[::]:0');
    await worksAt(`grpc+http://127.0.0.1:${daemon.port}`);
    await worksAt(`grpc+http://[::1]:${daemon.port}`);
    expect(await daemon.stop()).toBe(0);
  });

  test('is refused where something listens already, which goes on', async () => {
    const daemon = await startDaemon('memory://');
    const { status, stderr } = await tvixStore(['daemon', '--store', 'memory://', '-l', daemon.at]);
    expect(status).toBe(1);
    expect(stderr).toBe(`error: cannot listen on ${daemon.at}: something listens there already\n`);
    await worksAt(daemon.url);
    await daemon.stop();
  });

  test.each(['nonsense', '127.0.0.1', '127.0.0.1:99999', '::1:8000', ':', '@'])(
    'is refused on %j, with what would do',
    async (address) => {
      expect(await refusal('-l', address)).toContain('want host:port, [v6]:port, /path, @name or sd-listen');
    },
  );
});

test('lets an upload, and all of a connection, send 8 MiB ahead', async () => {
  const daemon = await startDaemon('memory://');
  const session = connectHttp2(`http://127.0.0.1:${daemon.port}`);
  try {
    // The first settings are those of grpc-js, and the connection's window follows.
    await vi.waitFor(() => {
      expect(session.remoteSettings.initialWindowSize).toBe(WINDOW);
      expect(session.state.remoteWindowSize).toBe(WINDOW);
    });
    expect(session.remoteSettings.maxConcurrentStreams).toBe(1024);
  } finally {
    session.destroy();
    await daemon.stop();
  }
});

describe('listening on a unix socket', () => {
  test('with the mode that was asked for; the file goes when the daemon does', async () => {
    const path = join(tempDir(), 'socket');
    const daemon = await startDaemon('memory://', path, ['--socket-mode', '0660', '--socket-gid', '12345']);
    expect((lstatSync(path).mode & 0o777).toString(8)).toBe('660');
    expect(lstatSync(path).gid).toBe(12345);
    await worksAt(`grpc+unix://${path}`);
    await worksAt(`grpc+unix:${path}`);
    expect(await daemon.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  test('where a killed daemon left its file', async () => {
    const path = join(tempDir(), 'socket');
    const killed = await startDaemon('memory://', path);
    await killed.stop('SIGKILL');
    expect(existsSync(path)).toBe(true);
    const daemon = await startDaemon('memory://', path);
    await worksAt(daemon.url);
    await daemon.stop();
  });

  test('is refused where one listens, which goes on', async () => {
    const path = join(tempDir(), 'socket');
    const daemon = await startDaemon('memory://', path);
    expect(await refusal('-l', path)).toContain('something listens there already');
    await worksAt(daemon.url);
    await daemon.stop();
  });

  test('is refused where there is a file of another kind, which stays', async () => {
    const path = join(tempDir(), 'precious');
    writeFileSync(path, 'precious');
    expect(await refusal('-l', path)).toContain(path);
    expect(lstatSync(path).size).toBe(8);
  });

  test('has room for what nobody has read yet', async () => {
    const path = join(tempDir(), 'socket');
    const piece = Buffer.alloc(64 << 10);
    let taken = 0;
    const make = () =>
      createServer((socket) => {
        const count = (error?: Error | null) => {
          if (!error) taken += piece.length;
        };
        socket.on('error', () => {});
        for (let i = 0; i < 64; i++) socket.write(piece, count);
      });
    const { servers } = await listen({ kind: 'unix', path }, {}, make);
    const client = connect(path).pause();
    // Linux's own would be full after 208 KiB.
    await expect.poll(() => taken).toBeGreaterThanOrEqual(1 << 20);
    client.destroy();
    for (const server of servers) server.close();
  });

  test('on an abstract one', async () => {
    const name = `tvix-store-test-${process.pid}`;
    const daemon = await startDaemon('memory://', `@${name}`);
    expect(daemon.at).toBe(`@${name}`);
    // grpc-js has no address for such a socket.
    const proxy = await TcpProxy.start(`\0${name}`);
    await worksAt(proxy.url);
    proxy.close();
    expect(await refusal('-l', `@${name}`)).toContain('something listens there already');
    expect(await daemon.stop()).toBe(0);
  });
});

describe('listening on what systemd opened', () => {
  /** Starts a daemon with listening sockets from the third descriptor on, as systemd does. */
  async function inherit(listen: string, servers: readonly Server[], names = '') {
    const fds = servers.map((server) => (server as unknown as { _handle: { fd: number } })._handle.fd);
    const script = `export LISTEN_PID=$$; exec "$@"`;
    const child = await start(
      'sh',
      ['-c', script, 'sh', process.execPath, CLI, 'daemon', '--store', 'memory://', '-l', listen],
      'info: listening',
      {
        stdio: ['ignore', 'ignore', 'pipe', ...fds],
        env: { ...process.env, LISTEN_FDS: String(fds.length), LISTEN_FDNAMES: names },
      },
    );
    for (const server of servers) server.close();
    return asDaemon(child);
  }

  async function listening(): Promise<{ server: Server; url: string }> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address() as { port: number };
    return { server, url: `grpc+http://127.0.0.1:${address.port}` };
  }

  test('takes all of it', async () => {
    const [one, other] = [await listening(), await listening()];
    const daemon = await inherit('sd-listen', [one.server, other.server]);
    expect(daemon.log()).toContain('sd-listen (descriptor 3)');
    await worksAt(one.url);
    await worksAt(other.url);
    expect(await daemon.stop()).toBe(0);
  });

  test('takes those of a name', async () => {
    const [one, other] = [await listening(), await listening()];
    const daemon = await inherit('sd-listen:grpc', [one.server, other.server], 'http:grpc');
    expect(daemon.log()).toContain('sd-listen (descriptor 4)');
    await worksAt(other.url);
    expect(await daemon.stop()).toBe(0);
  });

  test('is refused when there is nothing, or it is for another process', async () => {
    expect(await refusal('-l', 'sd-listen')).toContain('systemd passed no sockets');
    const env = { ...process.env, LISTEN_PID: '1', LISTEN_FDS: '1' };
    const { status, stderr } = await tvixStore(['daemon', '--store', 'memory://', '-l', 'sd-listen'], {
      env,
    });
    expect(status).toBe(1);
    expect(stderr).toContain('systemd passed no sockets');
  });
});

describe('TLS', () => {
  const dir = tempDir();
  const file = (name: string) => join(dir, name);

  async function openssl(...args: string[]): Promise<void> {
    const { status, stderr } = await run('openssl', args, { cwd: dir });
    expect(status, stderr).toBe(0);
  }

  /** A key, and a certificate that an authority signs; its own when there is none. */
  async function certificate(
    name: string,
    authority?: string,
    hosts = 'DNS:localhost,IP:127.0.0.1,IP:::1',
  ): Promise<void> {
    const subject = ['-subj', `/CN=${name}`, '-nodes', '-days', '2', '-keyout', `${name}.key`];
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
    const sign = authority ? ['-CA', `${authority}.pem`, '-CAkey', `${authority}.key`] : [];
    const extension = authority ? ['-addext', `subjectAltName=${hosts}`] : [];
    await openssl('req', '-x509', ...key, ...subject, ...sign, ...extension, '-out', `${name}.pem`);
  }

  beforeAll(async () => {
    await Promise.all(['authority', 'another', 'clients'].map((name) => certificate(name)));
    await certificate('server', 'authority');
    await certificate('elsewhere', 'authority', 'DNS:localhost,IP:127.0.0.2');
    await certificate('client', 'clients');
    await certificate('stranger', 'another');
  });

  const tls = () => ['--tls-cert', file('server.pem'), '--tls-key', file('server.key')];
  const withClient = (name: string) => `&cert=${file(`${name}.pem`)}&key=${file(`${name}.key`)}`;

  test('lets in who trusts the authority, and nobody else', async () => {
    const daemon = await startDaemon('memory://', '127.0.0.1:0', tls());
    await worksAt(`grpc+https://localhost:${daemon.port}?ca=${file('authority.pem')}`);
    const probe = async (address: string) => {
      const store = await openAt(address);
      try {
        return await codeOf(store.blobs.chunks(Digest.hash(Buffer.alloc(0))));
      } finally {
        await store.close();
      }
    };
    const refused = await Promise.all([
      probe(`grpc+https://localhost:${daemon.port}?ca=${file('another.pem')}`),
      probe(`grpc+https://localhost:${daemon.port}`),
      probe(`grpc+http://localhost:${daemon.port}`),
    ]);
    expect(refused).toEqual(['UNAVAILABLE', 'UNAVAILABLE', 'UNAVAILABLE']);
    expect(await daemon.stop()).toBe(0);
  });

  test('is checked against an address where there is no name', async () => {
    const ca = file('authority.pem');
    const daemon = await startDaemon('memory://', '[::]:0', tls());
    await worksAt(`grpc+https://127.0.0.1:${daemon.port}?ca=${ca}`);
    await worksAt(`grpc+https://[::1]:${daemon.port}?ca=${ca}`);
    await daemon.stop();
    const files = ['--tls-cert', file('elsewhere.pem'), '--tls-key', file('elsewhere.key')];
    const elsewhere = await startDaemon('memory://', '127.0.0.1:0', files);
    await worksAt(`grpc+https://localhost:${elsewhere.port}?ca=${ca}`);
    const store = await openAt(`grpc+https://127.0.0.1:${elsewhere.port}?ca=${ca}`);
    expect(await codeOf(store.blobs.chunks(Digest.hash(Buffer.alloc(0))))).toBe('UNAVAILABLE');
    await store.close();
    await elsewhere.stop();
  });

  test('lets in only clients with a certificate when that is asked for', async () => {
    const daemon = await startDaemon('memory://', '127.0.0.1:0', [
      ...tls(),
      '--tls-client-ca',
      file('clients.pem'),
    ]);
    const url = `grpc+https://localhost:${daemon.port}?ca=${file('authority.pem')}`;
    await worksAt(url + withClient('client'));
    const refused = await Promise.all(
      [url, url + withClient('stranger')].map(async (address) => {
        const store = await openAt(address);
        try {
          return await codeOf(store.blobs.chunks(Digest.hash(Buffer.alloc(0))));
        } finally {
          await store.close();
        }
      }),
    );
    expect(refused).toEqual(['UNAVAILABLE', 'UNAVAILABLE']);
    await worksAt(url + withClient('client'));
    await daemon.stop();
  });

  test('is refused half-configured, or with what is no certificate', async () => {
    expect(await refusal('--tls-cert', file('server.pem'))).toContain('--tls-key');
    expect(await refusal('--tls-client-ca', file('clients.pem'))).toContain('--tls-cert');
    expect(await refusal('--tls-cert', file('missing'), '--tls-key', file('server.key'))).toContain(
      'missing',
    );
    writeFileSync(file('nonsense'), 'nonsense');
    await refusal('-l', '127.0.0.1:0', '--tls-cert', file('nonsense'), '--tls-key', file('nonsense'));
  });

  test('a client is told what is wrong with its address', async () => {
    const wrong = {
      'grpc+http://127.0.0.1:1?ca=/x': 'ca goes with grpc+https',
      'grpc+https://localhost:1?ca=/missing': 'cannot read ca',
      [`grpc+https://localhost:1?cert=${file('client.pem')}`]: 'cert and key go together',
      'grpc+http://localhost:1?what=ever': 'unknown parameter "what"',
      'grpc+http://localhost:1?protocol=nix': 'protocol=nix is unknown',
      'grpc+http://localhost:1/path': 'a path has no meaning',
      'grpc+unix://': 'grpc+unix:///path',
    };
    for (const [address, said] of Object.entries(wrong)) await expect(openAt(address)).rejects.toThrow(said);
  });
});

describe('a daemon that is to stop', () => {
  const message = (data: Uint8Array) => Buffer.from(BlobChunk.encode({ data }).finish());

  /** Resolves when the server has what this client has sent: on one connection it hears of calls in their order. */
  const arrived = (client: RawClient) => client.call(STAT, Buffer.alloc(0));

  test('lets a running call finish, takes no new ones, and ends with 0', async () => {
    const dir = tempDir();
    const daemon = await startDaemon(`local://${dir}/store`);
    const client = new RawClient(daemon.at);
    await arrived(client);
    const upload = client.open(PUT_BLOB);
    const [first, last] = [randomBytes(200_000, 'first'), randomBytes(200_000, 'last')];
    const ended = answered(upload);
    const answer = new Promise<Buffer>((resolve) => upload.once('data', resolve));
    upload.write(message(first));
    await arrived(client);
    const stopped = daemon.stop('SIGTERM');
    while (!daemon.log().includes('info: stopping')) await delay(10);
    const late = new RawClient(daemon.at);
    while ((await late.call(STAT, Buffer.alloc(0))).code !== 'UNAVAILABLE') await delay(10);
    late.close();
    upload.write(message(last));
    upload.end();
    expect(await ended).toMatchObject({ code: 'OK' });
    const begun = Date.now();
    expect(await stopped).toBe(0);
    expect(Date.now() - begun).toBeLessThan(SOON_MS);
    client.close();
    const served = localStore(`${dir}/store`);
    const digest = Digest.of(PutBlobResponse.decode(await answer).digest);
    expect((await readBlob(served, digest))?.equals(Buffer.concat([first, last]))).toBe(true);
    await served.close();
  });

  test('does not wait for connections that do nothing', async () => {
    const daemon = await startDaemon('memory://');
    const client = new RawClient(daemon.at);
    await client.call(STAT, Buffer.alloc(0));
    const silent: Socket = connect(daemon.port, '127.0.0.1');
    silent.on('error', () => {});
    await new Promise((resolve) => silent.once('connect', resolve));
    const begun = Date.now();
    expect(await daemon.stop('SIGINT')).toBe(0);
    expect(Date.now() - begun).toBeLessThan(SOON_MS);
    silent.destroy();
    client.close();
  });

  test('does not wait for ever for a call that does not end', async () => {
    const daemon = await startDaemon('memory://');
    const client = new RawClient(daemon.at);
    await arrived(client);
    const upload = client.open(PUT_BLOB);
    const ended = answered(upload);
    upload.write(message(Buffer.from('and then nothing')));
    await arrived(client);
    const begun = Date.now();
    expect(await daemon.stop()).toBe(0);
    expect(Date.now() - begun).toBeLessThan(5000 + SOON_MS);
    expect((await ended).code).not.toBe('OK');
    client.close();
  });

  test('can be stopped as soon as it listens', async () => {
    const child = await startTvixStore(
      ['daemon', '--store', 'memory://', '-l', '127.0.0.1:0'],
      'info: listening',
    );
    expect(await asDaemon(child).stop('SIGTERM')).toBe(0);
  });
});
