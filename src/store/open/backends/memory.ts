import { MemoryBlobService } from '../../../castore/blob/memory.ts';
import { MemoryDirectoryService } from '../../../castore/directory/memory.ts';
import { restrict } from '../../../util/url.ts';
import { MemoryPathInfoService } from '../../path-info/memory.ts';
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

function openMemory(): Store {
  return {
    blobs: new MemoryBlobService(),
    directories: new MemoryDirectoryService(),
    pathInfos: new MemoryPathInfoService(),
    close: async () => {},
  };
}
