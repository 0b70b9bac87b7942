import { describe } from 'vitest';
import { blobServiceContract } from '../contract/blobs.ts';
import { directoryServiceContract } from '../contract/directories.ts';
import { pathInfoServiceContract } from '../contract/path-infos.ts';
import { memoryStore } from '../helpers/services.ts';

describe('a store in memory', () => {
  const open = async () => memoryStore();
  blobServiceContract(open);
  directoryServiceContract(open);
  pathInfoServiceContract(open);
});
