import { parentPort, workerData } from 'node:worker_threads';
import type { DirectoryIndex } from './directory.ts';
import { Directory } from './directory.ts';
import { shared } from './large-directory.ts';

const encoded = workerData as Uint8Array;
const { bytes, table, order } = Directory.decode(encoded).index;
const index: DirectoryIndex = {
  bytes: bytes === encoded ? encoded : shared(bytes),
  table: shared(table),
  order: shared(order),
};
parentPort!.postMessage(index);
