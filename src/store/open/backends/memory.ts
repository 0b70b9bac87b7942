import { MemoryBlobService } from '../../../castore/blob/memory.ts';
import { MemoryDirectoryService } from '../../../castore/directory/memory.ts';
import { MemoryPathInfoService } from '../../path-info/memory.ts';
import type { Store } from '../../services.ts';
import { restrict } from './backend.ts';

/** `memory://`: gone with the process. */
export function openMemory(url: URL): Store {
  restrict(url, {});
  return {
    blobs: new MemoryBlobService(),
    directories: new MemoryDirectoryService(),
    pathInfos: new MemoryPathInfoService(),
    close: async () => {},
  };
}
