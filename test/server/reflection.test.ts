import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { CLI, run } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { describeWith } from '../helpers/other-clients.ts';
import { answered, RawClient } from '../helpers/raw-grpc.ts';
import { tempDir } from '../helpers/temp.ts';

const SCRIPT = join(import.meta.dirname, 'reflection-client.py');
const PROTOS = join(CLI, '../../proto/generated/protos');

const STORE_SERVICES = ['tvix', 'snix'].flatMap((dialect) => [
  `${dialect}.castore.v1.BlobService`,
  `${dialect}.castore.v1.DirectoryService`,
  `${dialect}.store.v1.PathInfoService`,
]);
const SERVICES = [
  'build.bazel.remote.execution.v2.Capabilities',
  'build.bazel.remote.execution.v2.ContentAddressableStorage',
  'google.bytestream.ByteStream',
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
  ...STORE_SERVICES,
];

describeWith('python-grpc', 'reflection, by a strict pool of descriptors', (python) => {
  describe.each(['v1alpha', 'v1'])('%s', (version) => {
    let daemon: TestDaemon;
    // biome-ignore lint/suspicious/noExplicitAny: the script's own record
    let said: any;

    beforeAll(async () => {
      daemon = await startDaemon(`local://${tempDir()}/store`);
      const result = await run(python, ['-W', 'ignore', SCRIPT, daemon.at, version, PROTOS]);
      expect(result).toMatchObject({ status: 0, stderr: '' });
      said = JSON.parse(result.stdout);
    });
    afterAll(async () => {
      await daemon.stop('SIGKILL');
    });

    test('lists every service', () => {
      expect(said.services.toSorted()).toEqual(SERVICES.toSorted());
    });

    test('describes every file as protoc does', () => {
      expect(said.unlikeProtoc).toEqual([]);
      expect(said.files).toEqual([
        'build/bazel/remote/execution/v2/capabilities.proto',
        'build/bazel/remote/execution/v2/content_addressable_storage.proto',
        'build/bazel/semver/semver.proto',
        'google/bytestream/bytestream.proto',
        'google/rpc/status.proto',
        'grpc/health/v1/health.proto',
        'grpc/reflection/v1/reflection.proto',
        'grpc/reflection/v1alpha/reflection.proto',
        ...['snix', 'tvix'].flatMap((dialect) => [
          `${dialect}/castore/v1/castore.proto`,
          `${dialect}/castore/v1/rpc_blobstore.proto`,
          `${dialect}/castore/v1/rpc_directory.proto`,
          `${dialect}/store/v1/pathinfo.proto`,
          `${dialect}/store/v1/rpc_pathinfo.proto`,
        ]),
      ]);
    });

    test('finds the file of every service, method, message, field, oneof, enum and value', () => {
      expect(said.symbols).toBeGreaterThan(200);
      expect(said.notFound).toEqual([]);
    });

    test('calls every method', () => {
      expect(Object.keys(said.methods).length).toBe(2 * 9 + 3 + 2 + 8);
      expect(said.notCalled).toEqual([]);
      // SERVING; and for the one that is unknown SERVICE_UNKNOWN.
      expect(said.serving).toEqual([1]);
      expect(said.watched).toEqual([1, 1, 3]);
    });

    test.each(['tvix', 'snix'])('finds what every method of %s takes and gives', (dialect) => {
      const ours = Object.entries(said.methods).filter(([name]) => name.startsWith(`${dialect}.`));
      const [castore, store] = [`${dialect}.castore.v1`, `${dialect}.store.v1`];
      expect(Object.fromEntries(ours)).toEqual({
        [`${castore}.BlobService.Stat`]: `${castore}.StatBlobRequest -> ${castore}.StatBlobResponse`,
        [`${castore}.BlobService.Read`]: `${castore}.ReadBlobRequest -> stream ${castore}.BlobChunk`,
        [`${castore}.BlobService.Put`]: `stream ${castore}.BlobChunk -> ${castore}.PutBlobResponse`,
        [`${castore}.DirectoryService.Get`]: `${castore}.GetDirectoryRequest -> stream ${castore}.Directory`,
        [`${castore}.DirectoryService.Put`]: `stream ${castore}.Directory -> ${castore}.PutDirectoryResponse`,
        [`${store}.PathInfoService.Get`]: `${store}.GetPathInfoRequest -> ${store}.PathInfo`,
        [`${store}.PathInfoService.Put`]: `${store}.PathInfo -> ${store}.PathInfo`,
        [`${store}.PathInfoService.CalculateNAR`]: `${castore}.Node -> ${store}.CalculateNARResponse`,
        [`${store}.PathInfoService.List`]: `${store}.ListPathInfoRequest -> stream ${store}.PathInfo`,
      });
    });

    test.each(['tvix', 'snix'])('finds the fields of the messages of %s', (dialect) => {
      expect(said.messages).toMatchObject({
        [`${dialect}.castore.v1.Directory`]: ['directories=1', 'files=2', 'symlinks=3'],
        [`${dialect}.castore.v1.Node`]: ['directory=1', 'file=2', 'symlink=3'],
        [`${dialect}.castore.v1.FileNode`]: ['name=1', 'digest=2', 'size=3', 'executable=4'],
        [`${dialect}.castore.v1.StatBlobResponse`]: ['chunks=2', 'bao=3'],
        [`${dialect}.castore.v1.GetDirectoryRequest`]: ['digest=1', 'recursive=2'],
        [`${dialect}.store.v1.PathInfo`]: ['node=1', 'references=2', 'narinfo=3'],
        [`${dialect}.store.v1.NARInfo`]: [
          'nar_size=1',
          'nar_sha256=2',
          'signatures=3',
          'reference_names=4',
          'deriver=5',
          'ca=6',
        ],
      });
    });

    test('hears of each request that cannot be met, in its answer', () => {
      const [invalid, notFound] = [3, 5];
      expect(said.refusals).toEqual({
        file: notFound,
        symbol: notFound,
        noSymbol: notFound,
        leadingDot: notFound,
        extension: notFound,
        numbers: notFound,
        nothing: invalid,
      });
      expect(said.extensionNumbers).toEqual(['tvix.castore.v1.Node', []]);
    });

    test('asks many times in one stream', () => {
      expect(said.answersOfOneStream).toBe(100);
    });
  });
});

describeWith('grpcurl', 'reflection, by grpcurl', (grpcurl) => {
  const UNIX = () => join(tempDir(), 'socket');

  describe.each([
    ['TCP', () => '127.0.0.1:0'],
    ['a unix socket', UNIX],
  ])('over %s', (_way, address) => {
    let daemon: TestDaemon;

    beforeAll(async () => {
      daemon = await startDaemon(`local://${tempDir()}/store`, address());
    });
    afterAll(async () => {
      await daemon.stop('SIGKILL');
    });

    const ask = (flags: readonly string[], ...verb: string[]) => {
      const target = daemon.at.startsWith('/') ? ['-unix', daemon.at] : [daemon.at];
      return run(grpcurl, ['-plaintext', ...flags, ...target, ...verb]);
    };
    const text = async (...verb: string[]) => {
      const { stdout, ...rest } = await ask([], ...verb);
      expect(rest).toEqual({ status: 0, stderr: '' });
      return stdout;
    };
    /** Calls a method with requests, each an object; gives the answers. */
    // biome-ignore lint/suspicious/noExplicitAny: an answer as JSON
    const call = async (method: string, ...requests: object[]): Promise<any[]> => {
      const data = requests.map((request) => JSON.stringify(request)).join('\n');
      const { stdout, ...rest } = await ask(['-d', data], method);
      expect(rest).toEqual({ status: 0, stderr: '' });
      // Objects one behind the other.
      return JSON.parse(`[${stdout.replaceAll(/\n\}\n\{/g, '\n},\n{')}]`);
    };

    test('lists every service', async () => {
      expect((await text('list')).split('\n').filter(Boolean).sort()).toEqual(SERVICES.toSorted());
    });

    test('describes every service and what it uses', async () => {
      const described = await text('describe');
      for (const service of SERVICES) expect(described).toContain(`${service} is a service:`);
      expect(await text('describe', 'tvix.store.v1.PathInfo')).toContain('.tvix.castore.v1.Node node = 1;');
      expect(await text('describe', 'grpc.health.v1.HealthListResponse')).toContain(
        'map<string, .grpc.health.v1.HealthCheckResponse> statuses = 1;',
      );
      expect(await text('describe', 'snix.store.v1.NARInfo.CA.Hash')).toContain('FLAT_SHA512 = 8;');
    });

    test.each(['tvix', 'snix'])('calls every method of %s', async (dialect) => {
      const [castore, store] = [`${dialect}.castore.v1`, `${dialect}.store.v1`];
      const data = Buffer.from(`contents for ${dialect}`);
      const digest = Buffer.from(Digest.hash(data).bytes).toString('base64');
      const parts = [data.subarray(0, 5), data.subarray(5)].map((part) => ({
        data: part.toString('base64'),
      }));
      expect(await call(`${castore}.BlobService/Put`, ...parts)).toEqual([{ digest }]);
      const read = await call(`${castore}.BlobService/Read`, { digest });
      expect(read).toEqual([{ data: data.toString('base64') }]);
      expect(await call(`${castore}.BlobService/Stat`, { digest, send_chunks: true })).toEqual([{}]);
      const name = Buffer.from('file').toString('base64');
      const directory = { files: [{ name, digest, size: `${data.length}` }] };
      const [{ rootDigest }] = await call(`${castore}.DirectoryService/Put`, directory);
      const request = { digest: rootDigest, recursive: true };
      expect(await call(`${castore}.DirectoryService/Get`, request)).toEqual([directory]);
      const node = { digest: rootDigest, size: '1' };
      const [nar] = await call(`${store}.PathInfoService/CalculateNAR`, { directory: node });
      const path = Buffer.from(`00000000000000000000000000000000-${dialect}`).toString('base64');
      const info = { node: { directory: { name: path, ...node } }, narinfo: nar };
      expect(await call(`${store}.PathInfoService/Put`, info)).toEqual([info]);
      const byOutputHash = Buffer.alloc(20).toString('base64');
      expect(await call(`${store}.PathInfoService/Get`, { byOutputHash })).toEqual([info]);
      expect(await call(`${store}.PathInfoService/List`)).toEqual([info]);
    });

    test('calls every method of the Remote Execution API that there is', async () => {
      const v2 = 'build.bazel.remote.execution.v2';
      const storage = `${v2}.ContentAddressableStorage`;
      const digestFunction = 'BLAKE3';
      const named = (bytes: Buffer) => ({ hash: Digest.hash(bytes).hex, sizeBytes: `${bytes.length}` });
      const [{ cacheCapabilities }] = await call(`${v2}.Capabilities/GetCapabilities`);
      expect(cacheCapabilities).toMatchObject({
        digestFunctions: ['BLAKE3'],
        supportedCompressors: ['IDENTITY', 'ZSTD'],
        spliceBlobSupport: true,
      });
      const [one, other] = [Buffer.from('one '), Buffer.from('other')];
      const requests = [one, other].map((bytes) => ({
        digest: named(bytes),
        data: bytes.toString('base64'),
      }));
      const blobDigests = [one, other].map(named);
      expect(await call(`${storage}/FindMissingBlobs`, { blobDigests, digestFunction })).toEqual([
        { missingBlobDigests: blobDigests },
      ]);
      expect(await call(`${storage}/BatchUpdateBlobs`, { requests, digestFunction })).toEqual([
        { responses: blobDigests.map((digest) => ({ digest, status: {} })) },
      ]);
      expect(await call(`${storage}/FindMissingBlobs`, { blobDigests, digestFunction })).toEqual([{}]);
      const whole = Buffer.concat([one, other]);
      const splice = { blobDigest: named(whole), chunkDigests: blobDigests, digestFunction };
      expect(await call(`${storage}/SpliceBlob`, splice)).toEqual([{ blobDigest: named(whole) }]);
      const [{ responses }] = await call(`${storage}/BatchReadBlobs`, {
        digests: [named(whole), named(Buffer.from('absent'))],
        digestFunction,
      });
      expect(responses).toEqual([
        { digest: named(whole), data: whole.toString('base64'), status: {} },
        { digest: named(Buffer.from('absent')), status: { code: 5, message: expect.any(String) } },
      ]);
      const stream = 'google.bytestream.ByteStream';
      const read = { resourceName: `blobs/blake3/${named(whole).hash}/9`, readOffset: '4' };
      expect(await call(`${stream}/Read`, read)).toEqual([{ data: other.toString('base64') }]);
      const written = Buffer.from('written');
      const resourceName = `some/instance/uploads/1/blobs/blake3/${named(written).hash}/7`;
      const parts = [
        { resourceName, data: written.subarray(0, 3).toString('base64') },
        { writeOffset: '3', finishWrite: true, data: written.subarray(3).toString('base64') },
      ];
      expect(await call(`${stream}/Write`, ...parts)).toEqual([{ committedSize: '7' }]);
      expect(await call(`${stream}/QueryWriteStatus`, { resourceName })).toEqual([
        { committedSize: '7', complete: true },
      ]);
    });

    test('calls every method of health', async () => {
      const SERVING = { status: 'SERVING' };
      expect(await call('grpc.health.v1.Health/Check')).toEqual([SERVING]);
      const [{ statuses }] = await call('grpc.health.v1.Health/List');
      expect(statuses).toEqual(
        Object.fromEntries(['', 'far-store', ...SERVICES].map((name) => [name, SERVING])),
      );
      const unknown = await ask(['-d', '{"service":"nobody"}'], 'grpc.health.v1.Health/Check');
      expect(unknown.stderr).toContain('Code: NotFound');
      // Watching has no end: grpcurl gives up after a second.
      const watch = await ask(['-max-time', '1'], 'grpc.health.v1.Health/Watch');
      expect(JSON.parse(watch.stdout)).toEqual(SERVING);
      expect(watch.stderr).toContain('Code: DeadlineExceeded');
    });

    test('hears that there is no such symbol', async () => {
      const { status, stderr } = await ask([], 'describe', 'tvix.store.v1.Nothing');
      expect({ status, stderr: stderr.trim() }).toEqual({
        status: 1,
        stderr: 'Failed to resolve symbol "tvix.store.v1.Nothing": Symbol not found: tvix.store.v1.Nothing',
      });
    });
  });
});

test('whoever watches the health of a daemon hears that it stops', async () => {
  const daemon = await startDaemon('memory://');
  const client = new RawClient(daemon.at);
  const watching = client.open('/grpc.health.v1.Health/Watch');
  const ended = answered(watching);
  const heard: number[] = [];
  const first = new Promise((resolve) => watching.once('data', resolve));
  // One field, the status, in a message of two bytes.
  watching.on('data', (message: Buffer) => heard.push(message[1]!));
  watching.end(Buffer.alloc(0));
  await first;
  expect(await daemon.stop()).toBe(0);
  expect((await ended).code).toBe('OK');
  const [SERVING, NOT_SERVING] = [1, 2];
  expect(heard).toEqual([SERVING, NOT_SERVING]);
  client.close();
});
