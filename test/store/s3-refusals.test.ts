import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { randomBytes } from '../helpers/random.ts';
import { S3Server } from '../helpers/s3.ts';
import type { Rules } from '../helpers/s3-front.ts';
import { s3Front } from '../helpers/s3-front.ts';
import { tempDir } from '../helpers/temp.ts';
import { directory, file, writeTree } from '../helpers/trees.ts';

const started = S3Server.start();
const declare = started instanceof S3Server ? describe : describe.skip;
const reason = started instanceof S3Server ? '' : ` (${started.missing})`;
const server = started as S3Server;

const tree = join(tempDir(), 'tree');
writeTree(tree, directory({ small: file('small'), large: file(randomBytes(700_000, 'refused')) }));
const cache = () => join(tempDir(), 'cache');
const MISSING = '/nix/store/00000000000000000000000000000000-missing';

/** A place in a bucket behind a server that answers some requests by itself, and the same place without it. */
async function place(rules: Rules, parameters: Record<string, string> = {}) {
  const direct = server.address(parameters);
  const url = new URL(direct);
  url.searchParams.set('aws_endpoint', await s3Front(server.endpoint, rules));
  return { direct, address: url.href };
}

const run = (command: string, address: string, ...args: string[]) =>
  tvixStore([command, '--store', address, '--cache', cache(), ...args]);

declare(`a bucket${reason}`, () => {
  /** As AWS says it to who may read objects and not list them. */
  const noListing: Rules = {
    before: ({ method, url }) =>
      method === 'GET' && url!.includes('list-type') ? { status: 403, code: 'AccessDenied' } : undefined,
    after: ({ method }, status) =>
      status === 404 && (method === 'GET' || method === 'HEAD')
        ? { status: 403, code: 'AccessDenied' }
        : undefined,
  };

  test('that may not be listed is filled and read, and what is missing there is absent', async () => {
    const { address } = await place(noListing);
    const imported = await run('import', address, tree);
    expect(imported).toMatchObject({ status: 0, stderr: '' });
    const path = imported.stdout.trim();
    expect(await run('cat', address, `${path}/small`)).toMatchObject({ status: 0, stdout: 'small' });
    const missing = await run('cat', address, `${MISSING}/file`);
    expect(missing.status).toBe(1);
    expect(missing.stderr).toContain('is not in the store');
  });

  test('that may not be read says so, also where it may not be listed', async () => {
    const { address, direct } = await place({ before: () => ({ status: 403, code: 'AccessDenied' }) });
    expect((await run('import', direct, tree)).status).toBe(0);
    for (const command of ['import', 'cat']) {
      const { status, stderr } = await run(command, address, command === 'cat' ? `${MISSING}/file` : tree);
      expect({ command, status }).toEqual({ command, status: 1 });
      expect(stderr).toContain('access to the bucket is denied');
    }
  });

  test('whose server is slow with requests, or wants fewer, is asked again', async () => {
    let refused = 0;
    const { address, direct } = await place({
      before: ({ method }) => {
        if (method !== 'PUT' || refused >= 6) return undefined;
        return refused++ % 2 === 0
          ? { status: 400, code: 'RequestTimeout' }
          : { status: 503, code: 'SlowDown' };
      },
    });
    const imported = await run('import', address, tree);
    expect(imported).toMatchObject({ status: 0, stderr: '' });
    expect(refused).toBe(6);
    const large = await run('cat', direct, `${imported.stdout.trim()}/large`);
    expect(large.status).toBe(0);
  });

  test('whose credentials expire in the middle of a run is asked with those that are there then', async () => {
    const home = tempDir();
    const credentials = join(home, 'credentials');
    const keys = (id: string, secret: string) =>
      writeFileSync(credentials, `[default]\naws_access_key_id = ${id}\naws_secret_access_key = ${secret}\n`);
    keys('old', 'oldsecret');
    let refused = 0;
    const { address } = await place({
      before: ({ headers }) => {
        if (!headers.authorization?.includes('Credential=old/')) return undefined;
        refused++;
        keys('test', 'testsecret');
        return { status: 400, code: 'ExpiredToken' };
      },
    });
    const url = new URL(address);
    url.searchParams.delete('aws_access_key_id');
    url.searchParams.delete('aws_secret_access_key');
    const env = { PATH: process.env.PATH, HOME: home, AWS_SHARED_CREDENTIALS_FILE: credentials };
    const imported = await tvixStore(['import', '--store', url.href, '--cache', cache(), tree], { env });
    expect(imported).toMatchObject({ status: 0, stderr: '' });
    expect(refused).toBeGreaterThan(0);
  });

  test('whose server ignores conditions is not written to', async () => {
    const { address, direct } = await place({
      after: ({ method }, status) => (method === 'PUT' && status === 412 ? { status: 200 } : undefined),
    });
    const { status, stdout, stderr } = await run('import', address, tree);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toContain('ignores conditional writes');
    expect(await run('ls', direct)).toMatchObject({ status: 0, stdout: '' });
  });
});
