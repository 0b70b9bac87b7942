import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { CLI, run } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { pythonWithGrpc } from '../helpers/python-grpc.ts';
import { tempDir } from '../helpers/temp.ts';

const SCRIPT = join(import.meta.dirname, 'grpcio-client.py');
const PROTOS = join(CLI, '../../proto/generated/protos');
const found = pythonWithGrpc();
const python = 'python' in found ? found.python : '';
const declare = 'python' in found ? describe : describe.skip;
const reason = 'missing' in found ? ` (${found.missing})` : '';

async function client(target: string, ...args: string[]) {
  const { status, stdout, stderr } = await run(python, ['-W', 'ignore', SCRIPT, target, ...args]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout);
}

declare(`Python's grpcio as the client${reason}`, () => {
  describe.each(['tvix', 'snix'])('by the stubs of %s', (dialect) => {
    let daemon: TestDaemon;
    // biome-ignore lint/suspicious/noExplicitAny: the script's own record
    let said: any;

    beforeAll(async () => {
      daemon = await startDaemon(`local://${tempDir()}/store`);
      said = await client(daemon.at, PROTOS, dialect);
    });
    afterAll(async () => {
      await daemon.stop('SIGKILL');
    });

    test('puts, reads and stats blobs', () => {
      expect(said).toMatchObject({
        small: Digest.hash(Buffer.from('hello world')).hex,
        empty: Digest.hash(Buffer.alloc(0)).hex,
        emptyMessages: 0,
        smallRead: 'hello world',
        largeRead: true,
        chunkSum: true,
        chunksRead: true,
        smallChunks: 0,
      });
      expect(said.chunks).toBeGreaterThan(1);
    });

    test('puts directories and gets them, alone and with all below', () => {
      expect(said).toMatchObject({ one: true, closure: true });
    });

    test('puts path infos with every field, gets and lists them, and has a NAR calculated', () => {
      expect(said).toMatchObject({ put: true, get: true, list: true });
      expect(said.nar[0]).toBeGreaterThan(0);
      expect(said.nar[1]).toMatch(/^[0-9a-f]{64}$/);
    });

    test('hears the right status', () => {
      expect(said.codes).toEqual({
        stat: 'NOT_FOUND',
        read: 'NOT_FOUND',
        readShort: 'INVALID_ARGUMENT',
        directory: 'NOT_FOUND',
        recursive: 'OK',
        dangling: 'INVALID_ARGUMENT',
        pathInfo: 'NOT_FOUND',
        byNothing: 'UNIMPLEMENTED',
        badInfo: 'INVALID_ARGUMENT',
      });
    });

    test('finds the daemon healthy', () => {
      expect(said.health).toBe('SERVING');
    });
  });

  describe.each(['v1alpha', 'v1'])('by reflection, %s', (version) => {
    let daemon: TestDaemon;
    let said: { services: string[]; methods: Record<string, string>; messages: Record<string, string[]> };

    beforeAll(async () => {
      daemon = await startDaemon('memory://');
      said = await client(daemon.at, 'reflect', version);
    });
    afterAll(async () => {
      await daemon.stop('SIGKILL');
    });

    test('finds every service', () => {
      expect(said.services).toEqual(
        expect.arrayContaining([
          'grpc.health.v1.Health',
          ...['tvix', 'snix'].flatMap((dialect) => [
            `${dialect}.castore.v1.BlobService`,
            `${dialect}.castore.v1.DirectoryService`,
            `${dialect}.store.v1.PathInfoService`,
          ]),
        ]),
      );
    });

    test.each(['tvix', 'snix'])('finds every method of %s, what it takes and gives', (dialect) => {
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
  });
});
