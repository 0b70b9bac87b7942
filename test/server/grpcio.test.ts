import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Digest } from '../../src/castore/digest.ts';
import { CLI, run } from '../helpers/cli.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { startDaemon } from '../helpers/daemon.ts';
import { describeWith } from '../helpers/other-clients.ts';
import { tempDir } from '../helpers/temp.ts';

const SCRIPT = join(import.meta.dirname, 'grpcio-client.py');
const PROTOS = join(CLI, '../../proto/generated/protos');

describeWith('python-grpc', "Python's grpcio as the client", (python) => {
  describe.each(['tvix', 'snix'])('by the stubs of %s', (dialect) => {
    let daemon: TestDaemon;
    // biome-ignore lint/suspicious/noExplicitAny: the script's own record
    let said: any;

    beforeAll(async () => {
      daemon = await startDaemon(`local://${tempDir()}/store`);
      const result = await run(python, ['-W', 'ignore', SCRIPT, daemon.at, PROTOS, dialect]);
      expect(result).toMatchObject({ status: 0, stderr: '' });
      said = JSON.parse(result.stdout);
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
});
