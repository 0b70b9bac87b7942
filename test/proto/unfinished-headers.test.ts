import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../helpers/cli.ts';

test('a server that never comes to the end of its headers does not end the process that asks it', async () => {
  const program = join(import.meta.dirname, '../helpers/unfinished-headers.ts');
  const { status, stderr } = await run(process.execPath, ['--expose-gc', program]);
  expect(status, stderr).toBe(0);
});
