/**
 * A thread that takes and gives back nodes of a table that it shares with others, for `node-table.test.ts`.
 * It uses what was built.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { RECORD } from '#built/fs/node-record.js';
import type { NodeDescription } from '#built/fs/node-table.js';
import { NodeTable } from '#built/fs/node-table.js';

const { buffer, seed, rounds }: { buffer: SharedArrayBuffer; seed: number; rounds: number } = workerData;
const table = new NodeTable(buffer);

let state = seed;
function below(limit: number): number {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return (state >>> 8) % limit;
}

function node(kind: NodeDescription['kind'], number: number): NodeDescription {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32LE(number % 7, 0);
  bytes.writeUInt32LE(number, 28);
  return {
    kind,
    executable: kind === RECORD.file && number % 2 === 0,
    size: number * 1e9,
    bytes,
    digestStart: 0,
  };
}

const hash = (number: number) => Buffer.alloc(20, number + 1);
/** What this thread holds: ids, each as often as it was taken. */
const held: { id: number; parent: number; wanted: NodeDescription }[] = [];
const wrong: { id: number; wanted: NodeDescription }[] = [];

function check(id: number, wanted: NodeDescription): void {
  const same = table.kind(id) === wanted.kind && table.fileSize(id) === wanted.size;
  if (!same || (wanted.kind === RECORD.file && !table.digest(id).equals(wanted.bytes)))
    wrong.push({ id, wanted });
}

for (let i = 0; i < rounds; i++) {
  if (held.length > 0 && below(5) < 2) {
    const [{ id, parent, wanted }] = held.splice(below(held.length), 1) as [(typeof held)[number]];
    check(id, wanted);
    table.forget(id, 1);
    // A child is taken while its parent is held, as the kernel does it.
    if (parent) table.forget(parent, 1);
    continue;
  }
  const path = below(20);
  const root = node(RECORD.directory, 1000 + path);
  const parent = table.acquireStorePath(hash(path), 1, root);
  const entry = below(30);
  const wanted = node((1 + (entry % 3)) as NodeDescription['kind'], entry);
  const id = table.acquire(parent, entry, wanted);
  check(parent, root);
  check(id, wanted);
  held.push({ id, parent, wanted });
}
for (const { id, parent } of held) {
  table.forget(id, 1);
  table.forget(parent, 1);
}
parentPort!.postMessage(wrong);
