import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon, worksAt } from '../helpers/daemon.ts';
import { http, raw } from '../helpers/http.ts';
import { tempDir } from '../helpers/temp.ts';

const FORMAT = '/format';

describe('the objects of a daemon, over HTTP on the listener of gRPC', () => {
  test('are there for HTTP/1.1, also when its first bytes come one by one', async () => {
    const daemon = await startDaemon('memory://');
    expect(await http(daemon.port, FORMAT)).toMatchObject({ status: 200, body: Buffer.from('1') });
    expect((await http(daemon.port, FORMAT, { method: 'HEAD' })).headers['content-length']).toBe('1');
    expect((await http(daemon.port, '/nix-cache-info')).status).toBe(404);
    const inPieces = ['G', 'ET /format HTTP/1.1\r\n', 'Connection: close\r\nHost: x\r\n', '\r\n'];
    expect(await raw(daemon.port, ...inPieces)).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\n1$/);
    await worksAt(daemon.url);
    expect(await daemon.stop()).toBe(0);
  });

  test('are for those who may read', async () => {
    const tokens = join(tempDir(), 'tokens');
    const made = await tvixStore(['token', 'add', '--file', tokens, 'reader', '--rights', 'read']);
    expect(made, made.stderr).toMatchObject({ status: 0 });
    const daemon = await startDaemon('memory://', '127.0.0.1:0', ['--tokens', tokens]);
    const authorization = `Bearer ${made.stdout.trim()}`;
    expect((await http(daemon.port, FORMAT, { headers: { authorization: 'Bearer x' } })).status).toBe(401);
    expect((await http(daemon.port, FORMAT, { headers: { authorization } })).status).toBe(200);
    await daemon.stop();
  });

  test('are there over TLS, where a client that can speak HTTP/2 is told to speak HTTP/1.1', async () => {
    const dir = tempDir();
    const [key, cert] = [join(dir, 'key'), join(dir, 'cert')];
    const made = await run('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert],
    ]);
    expect(made.status, made.stderr).toBe(0);
    const daemon = await startDaemon('memory://', '127.0.0.1:0', ['--tls-cert', cert, '--tls-key', key]);
    const curl = (...flags: string[]) =>
      run('curl', ['-sS', '--cacert', cert, ...flags, `https://localhost:${daemon.port}${FORMAT}`]);
    for (const flags of [['--http1.1'], ['--no-alpn'], []])
      expect(await curl(...flags), flags.join()).toMatchObject({ status: 0, stdout: '1' });
    await worksAt(`grpc+https://localhost:${daemon.port}?ca=${cert}`);
    await daemon.stop();
  });
});
