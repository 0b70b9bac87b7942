import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import { openAt, startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { mount } from '../helpers/mount.ts';
import { tempDir } from '../helpers/temp.ts';
import { TestVirtiofs } from '../helpers/virtiofs.ts';

const dir = tempDir();
const store = ['--store', `local://${dir}/store`];
const bucket = `objectstore+file://${dir}/bucket`;
let path: string;

/** A use of every command, as it is usual. `tvixStore` throws when Node warns. */
const USES: Record<string, () => string[]> = {
  import: () => ['import', ...store, join(dir, 'tree')],
  ls: () => ['ls', ...store],
  cat: () => ['cat', ...store, `${path}/file`],
  'path-info': () => ['path-info', ...store, '--all'],
  diff: () => ['diff', ...store, path, path],
  du: () => ['du', ...store, '--all'],
  why: () => ['why', ...store, path],
  'nix-db': () => ['nix-db', ...store, path],
  nar: () => ['nar', 'ls', ...store, path],
  token: () => ['token', 'add', '--file', join(dir, 'tokens.json'), 'name'],
  key: () => ['key', 'generate', '--file', join(dir, 'key'), 'test-1'],
  sign: () => ['sign', ...store, '--key-file', join(dir, 'signing'), '--all'],
  verify: () => ['verify', ...store, '--all'],
  composition: () => ['composition', 'check', join(dir, 'composition.toml')],
  realise: () => ['realise', ...store, path, join(dir, 'out')],
  copy: () => ['copy', '--from', store[1]!, '--to', `nix+file://${dir}/cache`, '--all'],
  warm: () => ['warm', '--store', bucket, '--cache', join(dir, 'warmed'), path],
  profile: () => ['profile', 'import', '--store', bucket, '--from', join(dir, 'profiles')],
  root: () => ['root', 'add', ...store, 'name', path],
  gc: () => ['gc', ...store],
  fsck: () => ['fsck', ...store],
  backup: () => ['backup', ...store, '--to', join(dir, 'backup')],
  restore: () => ['restore', '--store', `local://${dir}/restored`, '--from', join(dir, 'backup')],
  compact: () => ['compact', ...store],
  upgrade: () => ['upgrade', ...store],
  stats: () => ['stats', ...store],
  completion: () => ['completion', 'bash'],
  man: () => ['man'],
  help: () => ['help'],
};
/** Those that serve: tested below. */
const SERVERS = ['mount', 'virtiofs', 'daemon', 'nar-bridge', 'nix-daemon'];

/** Addresses where nothing is: what they need is loaded, and says so. */
const NOBODY = [
  'grpc+http://127.0.0.1:1',
  'grpc+https://127.0.0.1:1',
  'nix+http://127.0.0.1:1',
  'objectstore+s3://bucket/x?aws_endpoint=http://127.0.0.1:1&aws_allow_http=true&aws_region=us-east-1' +
    '&aws_access_key_id=a&aws_secret_access_key=b',
];

beforeAll(async () => {
  mkdirSync(join(dir, 'tree'));
  writeFileSync(join(dir, 'tree/file'), 'contents');
  mkdirSync(join(dir, 'out'));
  writeFileSync(join(dir, 'profiles'), 'tvix-store profiles 1\n');
  const composition = ['blobservices', 'directoryservices', 'pathinfoservices']
    .map((kind) => `[${kind}.root]\ntype = "memory"\n`)
    .join('');
  writeFileSync(join(dir, 'composition.toml'), composition);
  const imported = await tvixStore(['import', ...store, join(dir, 'tree')]);
  path = imported.stdout.trim();
  await tvixStore(['copy', '--from', store[1]!, '--to', bucket, path]);
  await tvixStore(['key', 'generate', '--file', join(dir, 'signing'), 'test-1']);
});

describe('a warning of Node or a package is never seen', () => {
  test('of every command', async () => {
    const { stdout } = await tvixStore(['--help']);
    const commands = [...stdout.split('Commands:')[1]!.matchAll(/^ {2}([\w-]+)/gm)].map(([, name]) => name);
    expect(commands.toSorted()).toEqual([...Object.keys(USES), ...SERVERS].toSorted());
  });

  test.each(Object.entries(USES))('by who runs %s', async (_name, use) => {
    const { status, stderr } = await tvixStore(use());
    expect(stderr).not.toMatch(/warning/i);
    expect(status, stderr).toBe(0);
  });

  test.each(NOBODY)('by who asks at %s', async (address) => {
    const { status, stderr } = await tvixStore(['import', '--store', address, join(dir, 'tree')], {
      timeout: 60_000,
    });
    expect(stderr).toMatch(/^error: /m);
    expect(stderr).not.toMatch(/warning/i);
    expect(status).toBe(1);
  });

  test('by who serves over gRPC, in clear and with TLS, and asks there', async () => {
    const [key, cert] = [join(dir, 'key.pem'), join(dir, 'cert.pem')];
    const subject = ['-subj', '/CN=x', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
    const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    await run('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', cert]);
    const clear = await startDaemon(store[1]!);
    const secret = await startDaemon('memory://', '127.0.0.1:0', ['--tls-cert', cert, '--tls-key', key]);
    for (const address of [clear.url, `grpc+https://127.0.0.1:${secret.port}?ca=${cert}`]) {
      const { status, stderr } = await tvixStore(['import', '--store', address, join(dir, 'tree')]);
      expect(status, stderr).toBe(0);
      // More at once than a signal or a stream may have listeners.
      const opened = await openAt(address);
      await Promise.all(Array.from({ length: 50 }, (_, i) => opened.blobs.put(Buffer.from(`${i}`))));
      await opened.close();
    }
    for (const daemon of [clear, secret]) {
      expect(await daemon.stop()).toBe(0);
      expect(daemon.log()).not.toMatch(/warning/i);
    }
  });

  test('by who serves to Nix', async () => {
    const bridge = await startNarBridge(store[1]!);
    const url = (name: string) => `http://127.0.0.1:${bridge.port}/${name}`;
    const hash = path.slice('/nix/store/'.length).slice(0, 32);
    const narinfo = await (await fetch(url(`${hash}.narinfo`))).text();
    const nar = url(/^URL: (.*)$/m.exec(narinfo)![1]!);
    await Promise.all(Array.from({ length: 50 }, async () => (await fetch(nar)).arrayBuffer()));
    expect(await bridge.stop()).toBe(0);
    expect(bridge.log()).not.toMatch(/warning/i);
  });

  test('by who mounts', async () => {
    const mounted = await mount(store);
    await run('timeout', ['20', 'ls', '-lR', join(mounted.dir, path.slice('/nix/store/'.length))]);
    const { status, log } = await mounted.stop();
    expect(status).toBe(0);
    expect(log).not.toMatch(/warning/i);
  });

  test('by who serves a virtual machine', async () => {
    const served = await TestVirtiofs.start(store);
    served.child.kill('SIGTERM');
    await new Promise((resolve) => served.child.once('close', resolve));
    expect(served.child.log()).not.toMatch(/warning/i);
  });
});
