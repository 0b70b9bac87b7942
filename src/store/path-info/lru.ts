import { LRUCache } from 'lru-cache';
import { MemoryPathInfoService } from './memory.ts';

/** The path infos that were used last, in the memory of this process: what stands near in a cache. */
export class LruPathInfoService extends MemoryPathInfoService {
  /** Keeps at most `capacity` of them. */
  constructor(capacity: number) {
    super(new LRUCache({ max: capacity }));
  }
}
