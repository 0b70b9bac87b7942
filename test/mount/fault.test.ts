import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { run, tvixStore } from '../helpers/cli.ts';
import { startDaemon, startNarBridge } from '../helpers/daemon.ts';
import { Fault, faultsIn } from '../helpers/fault.ts';
import { mount } from '../helpers/mount.ts';
import { randomBytes } from '../helpers/random.ts';
import { S3Server } from '../helpers/s3.ts';
import { tempDir } from '../helpers/temp.ts';

const PATHS = 8;
const FAULTS = 3;

const dir = tempDir();
const local = `local://${dir}/store`;
const trees = Array.from({ length: PATHS }, (_, i) => join(dir, `tree-${i}`));
let names: string[];

beforeAll(async () => {
  for (const [i, tree] of trees.entries()) {
    mkdirSync(join(tree, 'sub'), { recursive: true });
    writeFileSync(join(tree, 'large'), randomBytes(900_000, `large ${i}`));
    writeFileSync(join(tree, 'sub/small'), `small ${i}`);
  }
  names = await importTrees(local);
});

async function importTrees(store: string): Promise<string[]> {
  const { stdout, stderr } = await tvixStore(['import', '--store', store, ...trees]);
  const paths = stdout.trim().split('\n');
  expect(paths.length, stderr).toBe(PATHS);
  return paths.map((path) => path.slice('/nix/store/'.length));
}

const s3 = S3Server.start();
const far: [what: string, event: string, start: () => Promise<string>, missing: string | undefined][] = [
  [
    'a binary cache',
    'Socket:readable',
    async () => `nix+http://127.0.0.1:${(await startNarBridge(local)).port}?trusted=1`,
    undefined,
  ],
  [
    'a daemon, out of its answers',
    'ClientHttp2Stream:data',
    async () => (await startDaemon(local)).url,
    undefined,
  ],
  [
    'a daemon, out of its headers',
    'ClientHttp2Stream:response',
    async () => (await startDaemon(local)).url,
    undefined,
  ],
  [
    'a bucket',
    'ClientRequest:response',
    async () => {
      const address = (s3 as S3Server).address();
      await importTrees(address);
      return address;
    },
    s3 instanceof S3Server ? undefined : s3.missing,
  ],
];

describe('a mount with a fault thrown out of an event of its fetch side', () => {
  for (const [what, event, start, missing] of far) {
    test.skipIf(missing)(
      `from ${what}: serves on, what is cached and what is not${missing ? ` (${missing})` : ''}`,
      async () => {
        const fault = new Fault(event);
        const args = ['--store', await start(), '--cache', join(tempDir(), 'cache'), '--timeout', '20s'];
        const mounted = await mount(args, undefined, { env: fault.env });
        const same = (i: number) =>
          run('diff', ['-r', trees[i]!, join(mounted.dir, names[i]!)], { timeout: 50_000 });
        expect(await same(0)).toMatchObject({ status: 0 });
        // What is cached, over and over, past the kernel's own memory.
        const cached = spawn('sh', [
          '-c',
          `while [ ! -e ${dir}/done-${mounted.pid} ]; do dd if=${mounted.dir}/${names[0]}/large bs=1M status=none iflag=nocache | cmp - ${trees[0]}/large || exit 3; done`,
        ]);
        const cachedEnd = once(cached, 'exit');
        let armed = 0;
        for (let i = 1; i < PATHS; i++) {
          if (armed < FAULTS) {
            fault.arm();
            armed++;
          }
          const first = await same(i);
          if (first.status !== 0) {
            expect(first.stderr).toContain('Input/output error');
            expect(await same(i), `path ${i}, again`).toMatchObject({ status: 0 });
          }
        }
        writeFileSync(`${dir}/done-${mounted.pid}`, '');
        expect(await cachedEnd).toEqual([0, null]);
        const { status, log } = await mounted.stop();
        expect(status).toBe(0);
        await fault.happened();
        expect(faultsIn(log), log).toBe(armed);
        expect(log).toContain('part="the connection to ');
        expect(log).toContain(`thrown by the test out of ${event}`);
      },
    );
  }
});
