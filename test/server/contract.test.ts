import { join } from 'node:path';
import { afterAll, beforeAll, describe } from 'vitest';
import { blobServiceContract } from '../contract/blobs.ts';
import { directoryServiceContract } from '../contract/directories.ts';
import { pathInfoServiceContract } from '../contract/path-infos.ts';
import type { TestDaemon } from '../helpers/daemon.ts';
import { openAt, startDaemon } from '../helpers/daemon.ts';
import { localStore } from '../helpers/services.ts';
import { tempDir } from '../helpers/temp.ts';

const TCP = () => '127.0.0.1:0';
const UNIX = () => join(tempDir(), 'daemon.sock');

/** How the daemon is reached, and in its URL the name that the services go by. */
const WAYS = {
  'TCP, by the name of tvix': { address: TCP, parameter: '?protocol=tvix' },
  'TCP, by the name of snix': { address: TCP, parameter: '?protocol=snix' },
  'TCP, by the name that works': { address: TCP, parameter: '' },
  'a unix socket': { address: UNIX, parameter: '' },
};

describe.each(Object.entries(WAYS))('a daemon over %s', (_way, { address, parameter }) => {
  const dir = join(tempDir(), 'store');
  let daemon: TestDaemon;

  beforeAll(async () => {
    daemon = await startDaemon(`local://${dir}`, address());
  });
  afterAll(async () => {
    await daemon.stop('SIGKILL');
  });

  const open = () => openAt(`${daemon.url}${parameter}`);
  blobServiceContract(open);
  directoryServiceContract(async () => {
    const client = await open();
    const served = localStore(dir);
    const close = async () => {
      await client.close();
      await served.close();
    };
    return { directories: client.directories, behind: served.directories, close };
  });
  pathInfoServiceContract(open);
});
