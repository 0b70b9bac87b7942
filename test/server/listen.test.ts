import { once } from 'node:events';
import { chmodSync, existsSync, lstatSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import type { Server } from 'node:net';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { listen } from '../../src/server/listen.ts';
import { CLI, start, tvixStore } from '../helpers/cli.ts';
import { asDaemon, refusalOf, startDaemon, worksAt } from '../helpers/daemon.ts';
import { HAS_IPV6 } from '../helpers/network.ts';
import { tempDir } from '../helpers/temp.ts';

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
      expect(await refusalOf('-l', address)).toContain(
        'want host:port, [v6]:port, /path, @name or sd-listen',
      );
    },
  );
});

test('lets an upload send further ahead the more of it has been read, whatever calls were before', async () => {
  const daemon = await startDaemon('memory://');
  const session = connectHttp2(`http://127.0.0.1:${daemon.port}`);
  try {
    await vi.waitFor(() => expect(session.remoteSettings.initialWindowSize).toBe(64 << 10));
    expect(session.remoteSettings.maxConcurrentStreams).toBe(100);
    const begin = (method: string) =>
      session
        .request({
          ':method': 'POST',
          ':path': `/tvix.castore.v1.${method}`,
          'content-type': 'application/grpc',
          te: 'trailers',
        })
        .on('error', () => {});
    for (let i = 0; i < 100; i++)
      await once(begin('BlobService/Stat').end(Buffer.alloc(5)).resume(), 'close');
    const call = begin('BlobService/Put');
    const message = Buffer.alloc(5 + (1 << 20));
    // A field of bytes that is as long as is left.
    message.writeUInt32BE(1 << 20, 1);
    message.set([0x0a, 0xfc, 0xff, 0x3f], 5);
    for (let i = 0; i < 24; i++) call.write(message);
    await vi.waitFor(() => expect(session.remoteSettings.initialWindowSize).toBe(8 << 20), {
      timeout: 20_000,
    });
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
    expect(await refusalOf('-l', path)).toContain('something listens there already');
    await worksAt(daemon.url);
    await daemon.stop();
  });

  test('is refused where there is a file of another kind, which stays', async () => {
    const path = join(tempDir(), 'precious');
    writeFileSync(path, 'precious');
    expect(await refusalOf('-l', path)).toContain(path);
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
    await worksAt(`grpc+unix:@${name}`);
    expect(await refusalOf('-l', `@${name}`)).toContain('something listens there already');
    expect(await daemon.stop()).toBe(0);
  });
});

describe('a unix socket that Linux has no room for', () => {
  const path = `/${'long/'.repeat(21)}xy`;

  test('is wrong usage for servers and clients alike', async () => {
    for (const args of [
      ['daemon', '--store', 'memory://', '-l', path],
      ['daemon', '--store', 'memory://', '-l', `@${'n'.repeat(108)}`],
      ['nar-bridge', '--store', 'memory://', '-l', path],
      ['virtiofs', '--store', 'memory://', path],
      ['ls', '--store', `grpc+unix://${path}`],
    ]) {
      const { status, stderr } = await tvixStore(args);
      expect([args[0], status, stderr]).toEqual([
        args[0],
        2,
        expect.stringContaining('108 bytes, want 107 at most'),
      ]);
    }
  });
});

test.runIf(process.getuid!() === 0)('a socket that cannot be given away is not left behind', async () => {
  const dir = tempDir();
  chmodSync(dir, 0o777);
  const path = join(dir, 'socket');
  const args = ['daemon', '--store', 'memory://', '-l', path, '--socket-uid', '0'];
  const { status, stderr } = await tvixStore(args, { uid: 65534, gid: 65534, cwd: '/' });
  expect([status, stderr]).toEqual([1, expect.stringContaining(`${path}: operation not permitted`)]);
  expect(existsSync(path)).toBe(false);
});

describe('listening on what systemd opened', () => {
  /** Starts a daemon with listening sockets from the third descriptor on, as systemd does. */
  async function inherit(
    listen: string,
    servers: readonly Server[],
    names = '',
    flags: readonly string[] = [],
  ) {
    const fds = servers.map((server) => (server as unknown as { _handle: { fd: number } })._handle.fd);
    const script = `export LISTEN_PID=$$; exec "$@"`;
    const child = await start(
      'sh',
      ['-c', script, 'sh', process.execPath, CLI, 'daemon', '--store', 'memory://', '-l', listen, ...flags],
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
    const daemon = await inherit('sd-listen', [one.server, other.server], '', ['--allow-anonymous-upload']);
    expect(daemon.log()).toContain('sd-listen (descriptor 3)');
    await worksAt(one.url);
    await worksAt(other.url);
    expect(await daemon.stop()).toBe(0);
  });

  test('decides for each of them who may upload', async () => {
    // An abstract one: Node removes the file of another when its own server closes.
    const name = `tvix-store-test-systemd-${process.pid}`;
    const [tcp, unix] = [createServer(), createServer()];
    await new Promise<void>((resolve) => tcp.listen(0, '127.0.0.1', resolve));
    await new Promise<void>((resolve) => unix.listen(`\0${name}`, resolve));
    const { port } = tcp.address() as { port: number };
    const daemon = await inherit('sd-listen', [tcp, unix]);
    const upload = (url: string) => {
      // What is there already is not sent again.
      const file = join(tempDir(), 'file');
      writeFileSync(file, url);
      return tvixStore(['import', '--store', url, file]);
    };
    expect((await upload(`grpc+unix:@${name}`)).stderr).toBe('');
    const { status, stderr } = await upload(`grpc+http://127.0.0.1:${port}`);
    expect([status, stderr]).toEqual([1, expect.stringContaining('only through a unix socket')]);
    expect(await daemon.stop()).toBe(0);
  });

  test('takes those of a name', async () => {
    const [one, other] = [await listening(), await listening()];
    const daemon = await inherit('sd-listen:grpc', [one.server, other.server], 'http:grpc', [
      '--allow-anonymous-upload',
    ]);
    expect(daemon.log()).toContain('sd-listen (descriptor 4)');
    await worksAt(other.url);
    expect(await daemon.stop()).toBe(0);
  });

  test('is refused when there is nothing, or it is for another process', async () => {
    expect(await refusalOf('-l', 'sd-listen')).toContain('systemd passed no sockets');
    const env = { ...process.env, LISTEN_PID: '1', LISTEN_FDS: '1' };
    const { status, stderr } = await tvixStore(['daemon', '--store', 'memory://', '-l', 'sd-listen'], {
      env,
    });
    expect(status).toBe(1);
    expect(stderr).toContain('systemd passed no sockets');
  });
});
