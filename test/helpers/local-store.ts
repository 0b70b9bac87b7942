import { afterEach } from 'vitest';
import { LocalBlobService } from '../../src/castore/blob/local.ts';
import { LocalDirectoryService } from '../../src/castore/directory/local.ts';
import { LocalStore } from '../../src/castore/local/store.ts';
import { tempDir } from './temp.ts';

const opened: LocalStore[] = [];

// Registered when a test file imports this: hooks that are added while tests run would not be called.
afterEach(async () => {
  for (const store of opened.splice(0)) await store.close();
});

/** Opens a store; it is closed behind the test. */
export function open(dir = tempDir(), kind: 'store' | 'cache' = 'store') {
  const store = LocalStore.open(dir, kind);
  opened.push(store);
  const blobs = new LocalBlobService(store);
  return { dir, store, blobs, directories: new LocalDirectoryService(store) };
}

/** Closes a store before the test ends. */
export async function close(store: LocalStore): Promise<void> {
  opened.splice(opened.indexOf(store), 1);
  await store.close();
}
