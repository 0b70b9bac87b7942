import { describe } from 'vitest';
import { blobServiceContract } from '../contract/blobs.ts';
import { directoryServiceContract } from '../contract/directories.ts';
import { pathInfoServiceContract } from '../contract/path-infos.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

describe('a local store', () => {
  const open = async () => localStore(tempDir());
  blobServiceContract(open);
  directoryServiceContract(open);
  pathInfoServiceContract(open);
});
