import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { run } from '../helpers/cli.ts';
import { openAt, refusalOf, startDaemon, worksAt } from '../helpers/daemon.ts';
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
});
