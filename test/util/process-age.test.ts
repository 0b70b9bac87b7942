import { spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { hasBegunWithin } from '../../src/util/system/process-age.ts';

test('when a process has begun is known, and of none that is not there', async () => {
  const begun = performance.now();
  const child = spawn('sleep', ['60']);
  expect(hasBegunWithin(performance.now() - begun, child.pid!)).toBe(true);
  await delay(200);
  expect(hasBegunWithin(100, child.pid!)).toBe(false);
  expect(hasBegunWithin(performance.now() - begun, child.pid!)).toBe(true);
  expect(hasBegunWithin(1000, 0)).toBe(false);
  child.kill();
});
