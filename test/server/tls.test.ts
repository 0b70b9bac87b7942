import { copyFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { run, tvixStore } from '../helpers/cli.ts';
import { openAt, refusalOf, startDaemon, startNarBridge, worksAt } from '../helpers/daemon.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { codeOf } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

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
    await Promise.all(['authority', 'another', 'clients', 'second'].map((name) => certificate(name)));
    await certificate('server', 'authority');
    await certificate('elsewhere', 'authority', 'DNS:localhost,IP:127.0.0.2');
    await certificate('second-server', 'second');
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

  test('is spoken by a binary cache, which asks for certificates where it is told to', async () => {
    const path = (
      await tvixStore(['import', '--store', `local://${dir}/store`, file('server.pem')])
    ).stdout.trim();
    const cat = (port: number, ca: string) =>
      tvixStore(
        [
          'cat',
          '--store',
          `nix+https://localhost:${port}?trusted=1&ca=${file(ca)}`,
          '--cache',
          tempDir(),
          path,
        ],
        { timeout: 60_000 },
      );
    const bridge = await startNarBridge(`local://${dir}/store`, '127.0.0.1:0', tls());
    expect(await cat(bridge.port, 'authority.pem')).toMatchObject({ status: 0 });
    const strange = await cat(bridge.port, 'another.pem');
    expect([strange.status, strange.stderr]).toEqual([1, expect.stringContaining('not trusted')]);
    expect(await bridge.stop()).toBe(0);

    const asking = await startNarBridge(`local://${dir}/store`, '127.0.0.1:0', [
      ...tls(),
      '--tls-client-ca',
      file('clients.pem'),
    ]);
    const curl = (...args: string[]) =>
      run('curl', [
        '-sS',
        '--cacert',
        file('authority.pem'),
        ...args,
        `https://localhost:${asking.port}/nix-cache-info`,
      ]);
    const shown = (name: string) => ['--cert', file(`${name}.pem`), '--key', file(`${name}.key`)];
    expect((await curl(...shown('client'))).stdout).toContain('StoreDir');
    for (const args of [[], shown('stranger')]) expect((await curl(...args)).status).not.toBe(0);
    // Who has one may upload: what is wrong with this one is only that it is no NAR.
    const url = `https://localhost:${asking.port}/nar/${'0'.repeat(52)}.nar`;
    const sent = ['-T', file('server.pem'), '-w', '%{http_code}', '-o', '/dev/null', url];
    const put = await run('curl', ['-sS', '--cacert', file('authority.pem'), ...shown('client'), ...sent]);
    expect(put.stdout).toBe('400');
    expect(await asking.stop()).toBe(0);
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

  test('of a binary cache is renewed without a restart', async () => {
    for (const [to, from] of [
      ['bridge.pem', 'server.pem'],
      ['bridge.key', 'server.key'],
    ] as const)
      copyFileSync(file(from), file(to));
    const flags = ['--tls-cert', file('bridge.pem'), '--tls-key', file('bridge.key')];
    const bridge = await startNarBridge('memory://', '127.0.0.1:0', flags);
    const trusts = async (ca: string) =>
      (await run('curl', ['-sS', '--cacert', file(ca), `https://localhost:${bridge.port}/health`])).stdout ===
      'serving\n';
    expect([await trusts('authority.pem'), await trusts('second.pem')]).toEqual([true, false]);
    copyFileSync(file('second-server.key'), file('bridge.key'));
    copyFileSync(file('second-server.pem'), file('bridge.pem'));
    await expect.poll(() => trusts('second.pem'), { timeout: 20_000 }).toBe(true);
    await bridge.stop();
  });

  test('takes new certificates, keys and authorities without a restart, on both sides', async () => {
    const put = (to: string, from: string) => renameSync(copied(from), file(to));
    const copied = (from: string) => {
      copyFileSync(file(from), file('being-written'));
      return file('being-written');
    };
    const current = (names: Record<string, string>) => {
      for (const [to, from] of Object.entries(names)) put(to, from);
    };
    current({ 'now.pem': 'server.pem', 'now.key': 'server.key', 'now-clients.pem': 'clients.pem' });
    current({
      'now-client.pem': 'client.pem',
      'now-client.key': 'client.key',
      'now-ca.pem': 'authority.pem',
    });
    const flags = ['--tls-cert', file('now.pem'), '--tls-key', file('now.key')];
    const daemon = await startDaemon('memory://', '127.0.0.1:0', [
      ...flags,
      '--tls-client-ca',
      file('now-clients.pem'),
    ]);
    const proxy = await TcpProxy.start(daemon.port);
    const at = new URL(proxy.url.replace('grpc+http', 'grpc+https'));
    const files = `ca=${file('now-ca.pem')}&cert=${file('now-client.pem')}&key=${file('now-client.key')}`;
    const store = await openAt(`grpc+https://localhost:${at.port}?${files}`);
    const works = () =>
      store.blobs.put(Buffer.from('a blob')).then(
        () => 'works',
        (error) => error.code,
      );
    expect(await works()).toBe('works');

    // One after the other, as whoever renews them does: what does not fit together yet is not taken.
    put('now.pem', 'second-server.pem');
    await expect.poll(() => daemon.log(), { timeout: 20_000 }).toContain('going on with what it was');
    proxy.reset();
    expect(await works()).toBe('works');
    current({ 'now.key': 'second-server.key', 'now-clients.pem': 'another.pem' });
    await delay(1200);
    // A connection that is open stays as it is.
    expect(await works()).toBe('works');
    const worksAnew = () => {
      proxy.reset();
      return works();
    };
    await expect.poll(worksAnew, { timeout: 20_000 }).toContain('UNAVAILABLE');
    current({
      'now-ca.pem': 'second.pem',
      'now-client.pem': 'stranger.pem',
      'now-client.key': 'stranger.key',
    });
    await expect.poll(works, { timeout: 20_000 }).toBe('works');
    await store.close();
    await daemon.stop();
  });

  test('is refused half-configured, or with what is no certificate', async () => {
    expect(await refusalOf('--tls-cert', file('server.pem'))).toContain('--tls-key');
    expect(await refusalOf('--tls-client-ca', file('clients.pem'))).toContain('--tls-cert');
    expect(await refusalOf('--tls-cert', file('missing'), '--tls-key', file('server.key'))).toContain(
      'missing',
    );
    writeFileSync(file('nonsense'), 'nonsense');
    await refusalOf('-l', '127.0.0.1:0', '--tls-cert', file('nonsense'), '--tls-key', file('nonsense'));
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

  test('a key that is not that of the certificate is named with it, on both sides', async () => {
    const [cert, key] = [file('server.pem'), file('client.key')];
    const refusal = await refusalOf('--tls-cert', cert, '--tls-key', key);
    expect(refusal).toContain(`--tls-key ${key} is not the private key of --tls-cert ${cert}`);
    expect(await refusalOf('--tls-cert', cert, '--tls-key', cert)).toContain(`${cert} is not a private key`);
    const address = `grpc+https://localhost:1?cert=${cert}&key=${key}`;
    await expect(openAt(address)).rejects.toThrow(`key ${key} is not the private key of cert ${cert}`);
    await expect(openAt(`grpc+https://localhost:1?ca=${key}`)).rejects.toThrow(
      `ca ${key} is not a certificate`,
    );
  });

  test('who is not let in is told why, and so is the log', async () => {
    const asking = await startDaemon('memory://', '127.0.0.1:0', [
      ...tls(),
      '--tls-client-ca',
      file('clients.pem'),
    ]);
    const plain = await startDaemon('memory://');
    const bridge = await startNarBridge('memory://');
    const said = async (store: string) => {
      const { status, stderr } = await tvixStore(['path-info', '--store', store, 'a'.repeat(32)]);
      expect(status).toBe(1);
      return stderr;
    };
    const trusting = `?ca=${file('authority.pem')}`;
    for (const host of ['localhost', '127.0.0.1']) {
      const url = `grpc+https://${host}:${asking.port}${trusting}`;
      expect(await said(url)).toMatch(/only clients with a certificate|asks for a certificate/);
      expect(await said(url + withClient('stranger'))).toMatch(
        /only clients with a certificate|the authority that signed .*stranger.pem/,
      );
    }
    expect(await said(`grpc+http://localhost:${asking.port}`)).toContain('meant to be encrypted (https)');
    expect(await said(`grpc+https://localhost:${plain.port}`)).toContain('does not speak TLS');
    expect(await said(`nix+https://localhost:${bridge.port}`)).toContain('does not speak TLS');
    expect(await said(`nix+http://localhost:${asking.port}`)).toContain('meant to be encrypted (https)');
    expect(asking.log()).toContain('the client showed no certificate, and --tls-client-ca asks for one');
    expect(asking.log()).toContain('is not of the authority in --tls-client-ca');
    expect(asking.log()).toContain('the client does not speak TLS: it should be given https');
    expect(plain.log()).toContain('does not speak gRPC, or speaks it over TLS');
    expect(bridge.log()).toContain('the client speaks TLS: it should be given http');
    await Promise.all([asking, plain, bridge].map((server) => server.stop()));
  });
});
