import type { Kind } from '../kind.ts';

/** The path infos that were used last, in this process: what stands near in a cache. */
export const LRU: Kind = {
  keys: { capacity: { is: 'number', required: true } },
  makes: {
    pathInfos: async ({ given }) => {
      const { LruPathInfoService } = await import('../../path-info/lru.ts');
      return { service: new LruPathInfoService(given.number('capacity')!) };
    },
  },
};
