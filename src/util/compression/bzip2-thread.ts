import { parentPort, workerData } from 'node:worker_threads';
import unbzip2 from 'unbzip2-stream';
import type { Bzip2Answer, Bzip2Question, Bzip2ThreadData } from './bzip2-protocol.ts';
import { MAX_UNTAKEN } from './bzip2-protocol.ts';

const { untaken } = workerData as Bzip2ThreadData;
const decoder = unbzip2();
const answer = (message: Bzip2Answer) => parentPort!.postMessage(message);

decoder.on('data', (part: Uint8Array) => {
  for (let now = Atomics.load(untaken, 0); now > MAX_UNTAKEN; now = Atomics.load(untaken, 0)) {
    Atomics.wait(untaken, 0, now);
  }
  Atomics.add(untaken, 0, part.length);
  answer(part);
});
decoder.on('error', (error: Error) => answer({ error: error.message }));
decoder.on('end', () => answer('end'));
parentPort!.on('message', (question: Bzip2Question) => {
  if (question === 'end') decoder.end();
  else {
    decoder.write(Buffer.from(question));
    answer('more');
  }
});
