import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { objectServicesContract, objectStoreContract } from '../contract/objects.ts';
import { tvixStore } from '../helpers/cli.ts';
import { openAt } from '../helpers/daemon.ts';
import { TcpProxy } from '../helpers/proxy.ts';
import { randomBytes } from '../helpers/random.ts';
import { S3Server } from '../helpers/s3.ts';
import { all, readBlob } from '../helpers/services.ts';

const started = S3Server.start();
const declare = started instanceof S3Server ? describe : describe.skip;
const reason = started instanceof S3Server ? '' : ` (${started.missing})`;
const server = started as S3Server;

declare(`objects in S3${reason}`, () => {
  objectStoreContract(() => server.objects());
  let shared: string | undefined;
  objectServicesContract(() => {
    shared ??= server.address();
    return server.objects(shared);
  });

  test('are listed by pages', async () => {
    const objects = await server.objects();
    const keys = Array.from({ length: 1001 }, (_, i) => `page/${i}`);
    await Promise.all(keys.map((key) => objects.put(key, Buffer.alloc(0), 'absent')));
    const listed = await all(objects.list('page/'));
    expect(listed.map(({ key }) => key).sort()).toEqual(keys.sort());
    await objects.close();
  });

  test('are got though connections were dropped without a word', async () => {
    const proxy = await TcpProxy.start(Number(new URL(server.endpoint).port));
    const endpoint = `http://${new URL(proxy.url).host}`;
    const objects = await server.objects(server.address({ aws_endpoint: endpoint }));
    await objects.put('one', Buffer.from('contents'), 'always');
    const gets = () => objects.get('one', 100).then((found) => Buffer.from(found!.bytes).toString());
    const lists = () => all(objects.list('o')).then(([found]) => found?.key);
    const looks = () => objects.facts('one').then((facts) => facts?.size);
    for (const [ask, answer] of [
      [gets, 'contents'],
      [lists, 'one'],
      [looks, 8],
    ] as const) {
      proxy.forget();
      const begun = performance.now();
      expect(await ask()).toBe(answer);
      expect(performance.now() - begun).toBeLessThan(12_000);
    }
    await objects.close();
  });

  test('are got through a network that breaks, and given up for one who leaves', async () => {
    const proxy = await TcpProxy.start(Number(new URL(server.endpoint).port));
    const endpoint = `http://${new URL(proxy.url).host}`;
    const store = await openAt(server.address({ aws_endpoint: endpoint }));
    const contents = randomBytes(8 << 20, 'a network that breaks');
    const { digest } = await store.blobs.put(contents);
    proxy.roundTrip = 10;
    const reading = readBlob(store, digest);
    for (let i = 0; i < 5; i++) {
      await delay(30);
      proxy.reset();
    }
    expect((await reading)?.equals(contents)).toBe(true);
    proxy.stall();
    const leaving = new AbortController();
    const left = [
      store.blobs.read(digest, { signal: leaving.signal }),
      store.blobs.put(Buffer.from('stalled'), { signal: leaving.signal }),
    ];
    await delay(50);
    leaving.abort(new Error('left'));
    for (const work of left) await expect(work).rejects.toThrow('left');
    await store.close();
  });
});

declare(`the address of a bucket${reason}`, () => {
  const nobody = { PATH: process.env.PATH, HOME: '/nonexistent', AWS_EC2_METADATA_DISABLED: 'true' };

  test.each([
    ['a bucket that is missing', () => server.address({}, 'absent'), 'there is no bucket "absent" at'],
    [
      'a secret that is wrong',
      () => server.address({ secret_access_key: 'wrong' }),
      'refuses the access key (SignatureDoesNotMatch)',
    ],
    [
      'a key that nobody knows',
      () => server.address({ AWS_ACCESS_KEY_ID: 'who' }),
      'refuses the access key (InvalidAccessKeyId)',
    ],
    [
      'nobody where only some may read',
      () => server.address({ skip_signature: 'true' }),
      'access to the bucket is denied',
    ],
    [
      'a server that is not there',
      () => server.address({ endpoint: 'http://127.0.0.1:1' }),
      'cannot reach http://127.0.0.1:1: the connection is refused',
    ],
    [
      'no credentials at all',
      () => `objectstore+s3://test?endpoint_url=${server.endpoint}&allow_http=true`,
      'no credentials were found; set AWS_ACCESS_KEY_ID',
    ],
  ])('with %s ends with 1 and says so', async (_what, address, why) => {
    const { status, stdout, stderr } = await tvixStore(['ls', '--store', address()], { env: nobody });
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toContain(why);
    expect(stderr.trim().split('\n').length).toBe(1);
    expect(stderr).not.toContain('testsecret');
  });

  test('can leave everything but the bucket to the environment', async () => {
    const env = {
      ...nobody,
      AWS_ENDPOINT_URL: server.endpoint,
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'testsecret',
    };
    expect(await tvixStore(['ls', '--store', 'objectstore+s3://test/nothing/here/'], { env })).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });
});
