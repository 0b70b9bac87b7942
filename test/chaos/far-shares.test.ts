import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { openAt, startDaemon } from '../helpers/daemon.ts';
import { randomBytes } from '../helpers/random.ts';
import { readBlob } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const MIB = 1 << 20;
const SECONDS = 12;
/** It was 460 to 520 MiB when what is ahead of each call did not count; 200 are what 5000 calls take otherwise. */
const MEMORY = 320;

const SOURCES = {
  'a bucket': async () => `objectstore+file://${tempDir()}/bucket`,
  'another daemon': async () => (await startDaemon(`local://${tempDir()}/store`)).url,
};

test.each(Object.entries(SOURCES))(
  '5000 reads of %s that nobody takes keep nobody out',
  async (_what, start) => {
    const daemon = await startDaemon(await start());
    const good = await openAt(daemon.url);
    const contents = randomBytes(32 * MIB, 'large');
    const { digest } = await good.blobs.put(contents);
    const program = new URL('../helpers/greedy-client.ts', import.meta.url).pathname;
    const targets = {
      listed: digest.hex,
      large: digest.hex,
      largeSize: contents.length,
      closure: digest.hex,
    };
    const greedy = spawn(
      process.execPath,
      [program, 'unread-reads', String(daemon.port), JSON.stringify(targets)],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    onTestFinished(() => void greedy.kill('SIGKILL'));
    await once(greedy.stdout!, 'data');
    let memory = 0;
    for (let i = 0; i < SECONDS * 5; i++) {
      await delay(200);
      memory = Math.max(memory, daemon.memory());
    }
    expect(memory / MIB).toBeLessThan(MEMORY);
    await good.blobs.put(randomBytes(1000, 'of a good client'));
    expect((await readBlob(good, digest))?.equals(contents)).toBe(true);
    await good.close();
    expect(await daemon.stop()).toBe(0);
  },
  120_000,
);
