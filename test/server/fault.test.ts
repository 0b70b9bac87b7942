import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { Fault, faultsIn } from '../helpers/fault.ts';
import { randomBytes } from '../helpers/random.ts';
import { tempDir } from '../helpers/temp.ts';

const FAULTS = 2;

const dir = tempDir();
const store = `local://${dir}/store`;
const contents = randomBytes(3_000_000, 'served');
let path: string;

beforeAll(async () => {
  writeFileSync(join(dir, 'file'), contents);
  path = (await tvixStore(['import', '--store', store, join(dir, 'file')])).stdout.trim();
});

describe.each([
  ['daemon', 'ServerHttp2Stream:data', startDaemon, (port: number) => `grpc+http://127.0.0.1:${port}`],
  [
    'nar-bridge',
    'Server:request',
    startNarBridge,
    (port: number) => `nix+http://127.0.0.1:${port}?trusted=1`,
  ],
] as const)(
  'a %s with a fault thrown out of an event of a connection (%s)',
  (_command, event, start, url) => {
    test('ends that connection, says why, and serves everybody else', async () => {
      const fault = new Fault(event);
      const server = await start(store, '127.0.0.1:0', [], { env: fault.env });
      const read = async () => {
        const args = ['nar', 'dump', '--store', url(server.port), '--cache', join(tempDir(), 'cache'), path];
        return (await tvixStore(args, { timeout: 50_000 })).stdout.length;
      };
      const whole = await read();
      for (let i = 0; i < FAULTS; i++) {
        fault.arm();
        const readers = await Promise.all([read(), read()]);
        expect(readers, server.log()).toContain(whole);
        await fault.happened();
      }
      expect(await read()).toBe(whole);
      expect(faultsIn(server.log()), server.log()).toBe(FAULTS);
      expect(server.log()).toContain('part="a connection to 127.0.0.1:');
      expect(server.log()).toContain(`thrown by the test out of ${event}`);
      expect(await server.stop()).toBe(0);
    });
  },
);
