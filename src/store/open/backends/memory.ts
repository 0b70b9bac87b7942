import { restrict } from '../../../util/url.ts';
import type { Store } from '../../services.ts';
import type { Kind } from '../kind.ts';
import { ofStore } from '../kind.ts';

/** In this process, gone at its end. */
export const MEMORY: Kind = {
  keys: {},
  address: () => 'memory://',
  check: (url) => restrict(url, {}),
  makes: ofStore(openMemory),
  isUnique: () => true,
};

async function openMemory(): Promise<Store> {
  const { MemoryBlobService } = await import('../../../castore/blob/memory.ts');
  const { MemoryDirectoryService } = await import('../../../castore/directory/memory.ts');
  const { MemoryPathInfoService } = await import('../../path-info/memory.ts');
  return {
    blobs: new MemoryBlobService(),
    directories: new MemoryDirectoryService(),
    pathInfos: new MemoryPathInfoService(),
    close: async () => {},
  };
}
