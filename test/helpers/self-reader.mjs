// Preloaded into a program of ours (NODE_OPTIONS=--import): at SIGUSR2 its main thread reads the file SELF_READ, and
// tells on standard error how that went.
import { readFileSync, writeSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

if (isMainThread) {
  process.on('SIGUSR2', () => {
    let outcome;
    try {
      outcome = readFileSync(process.env.SELF_READ, 'utf8');
    } catch (error) {
      outcome = error.code;
    }
    writeSync(2, `self: ${outcome}\n`);
  });
}
