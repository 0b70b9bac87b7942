import { parentPort, workerData } from 'node:worker_threads';
import { sharedIndex } from './large-directory.ts';

parentPort!.postMessage(sharedIndex(workerData as Uint8Array));
