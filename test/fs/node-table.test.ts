import { once } from 'node:events';
import { join } from 'node:path';
import { threadId, Worker } from 'node:worker_threads';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LOOKUPS, RECORD, STATE_WORDS, WORDS } from '../../src/fs/node-record.ts';
import type { NodeDescription } from '../../src/fs/node-table.ts';
import { NodeTable } from '../../src/fs/node-table.ts';
import { forAll } from '../helpers/arbitraries.ts';

const ROOT = 1;

/** A digest whose first word is shared by many: they meet in one bucket. */
function digest(number: number): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32LE(number % 3, 0);
  bytes.writeUInt32LE(number, 28);
  return bytes;
}

function describeNode(kind: 1 | 2 | 3, number: number, executable = false): NodeDescription {
  return { kind, executable, size: number * 1e9, bytes: digest(number), digestStart: 0 };
}
const dir = (number: number) => describeNode(RECORD.directory, number);
const file = (number: number, executable = false) => describeNode(RECORD.file, number, executable);
/** A file whose digest's first word is like no other's. */
const spread = (number: number): NodeDescription => {
  const bytes = Buffer.alloc(32, 1);
  bytes.writeUInt32LE(number, 0);
  return { ...file(number), bytes };
};
const link = (number: number) => describeNode(RECORD.symlink, number);
const hash = (number: number) => Buffer.alloc(20, number + 1);

function makeTable(capacity = 4096): NodeTable {
  return new NodeTable(NodeTable.allocate(capacity));
}

describe('the node table', () => {
  test('keeps what a node is', () => {
    const table = makeTable();
    const root = table.acquireStorePath(hash(7), ROOT, dir(1));
    const bytes = Buffer.concat([Buffer.alloc(5), digest(77), Buffer.alloc(5)]);
    const size = 2 ** 48 - 1;
    const id = table.acquire(root, 3, { kind: RECORD.file, executable: true, size, bytes, digestStart: 5 });
    expect([table.kind(id), table.executable(id), table.fileSize(id)]).toEqual([RECORD.file, true, size]);
    expect(table.digest(id).equals(digest(77))).toBe(true);
    expect(table.digestKey(id)).toBe(digest(77).toString('latin1'));
    const inner = table.acquire(root, 4, dir(2));
    expect([table.parent(inner), table.entry(inner), table.parent(root)]).toEqual([root, 4, ROOT]);
    expect(table.digest(table.storePath(inner)).subarray(0, 20).equals(hash(7))).toBe(true);
    expect(table.storePath(inner)).toBe(table.storePath(root));
    // Neither the root nor the name of a store path is a node of the table.
    const others = [0, ROOT, 2 ** 30, -1, table.storePath(root)];
    expect(others.filter((other) => table.has(other))).toEqual([]);
  });

  test('keeps a node that has more references than can be counted', () => {
    const capacity = 64;
    const memory = NodeTable.allocate(capacity);
    const table = new NodeTable(memory);
    const root = table.acquireStorePath(hash(0), ROOT, dir(1));
    const id = table.acquire(root, 3, file(7));
    const words = new Int32Array(memory);
    words[STATE_WORDS + capacity + id * WORDS + LOOKUPS] = 2 ** 31 - 3;
    for (let i = 0; i < 10; i++) expect(table.acquire(root, 3, file(7))).toBe(id);
    table.forget(id, 2 ** 31 - 1);
    expect(table.has(id)).toBe(true);
    table.forgetAll();
    expect(table.has(id)).toBe(false);
  });

  test('knows a node by its place: equal files in two places are two nodes', () => {
    const table = makeTable();
    const a = table.acquireStorePath(hash(0), ROOT, dir(1));
    const b = table.acquireStorePath(hash(1), ROOT, dir(1));
    expect(a).not.toBe(b);
    expect(table.acquireStorePath(hash(0), ROOT, dir(1))).toBe(a);
    const inner = table.acquire(a, 1, dir(5));
    const nodes = [
      table.acquire(a, 0, file(5)),
      table.acquire(a, 2, file(5)),
      table.acquire(b, 0, file(5)),
      table.acquireStorePath(hash(2), ROOT, file(5)),
      inner,
      table.acquire(b, 1, dir(5)),
      table.acquire(a, 3, link(5)),
    ];
    expect(new Set(nodes).size).toBe(nodes.length);
    expect(table.acquire(a, 0, file(5))).toBe(nodes[0]);
    expect(table.acquire(a, 1, dir(5))).toBe(inner);
    expect(new Set(table.filesOf(digest(5)))).toEqual(new Set(nodes.slice(0, 4)));
    expect([...table.filesOf(digest(6))]).toEqual([]);
  });

  test('a store path that was replaced by another of its name is another node, beside the old one', () => {
    const table = makeTable();
    const old = table.acquireStorePath(hash(0), ROOT, file(5));
    const now = table.acquireStorePath(hash(0), ROOT, file(6));
    expect(now).not.toBe(old);
    expect(table.acquireStorePath(hash(0), ROOT, file(6))).toBe(now);
    expect(table.digest(old).equals(digest(5))).toBe(true);
    table.forget(now, 2);
    table.forget(old, 1);
    expect(table.size).toBe(0);
  });

  test('no two uses of an id have the same generation, nor do two mounts', () => {
    const table = makeTable();
    const seen = new Set<number>();
    for (let i = 0; i < 100; i++) {
      const id = table.acquireStorePath(hash(i), ROOT, file(i));
      const generation = table.generation(id);
      expect(table.acquireStorePath(hash(i), ROOT, file(i))).toBe(id);
      expect(table.generation(id)).toBe(generation);
      seen.add(id * 2 ** 32 + generation);
      table.forget(id, 2);
    }
    expect(seen.size).toBe(100);
    const first = () => {
      const other = makeTable();
      return other.generation(other.acquireStorePath(hash(0), ROOT, dir(1)));
    };
    // By chance, four are the same once in 2^96.
    expect(new Set([first(), first(), first(), first()]).size).toBeGreaterThan(1);
  });

  test('a parent stays while a child is known, and goes with the last', () => {
    const table = makeTable();
    const root = table.acquireStorePath(hash(0), ROOT, dir(1));
    const inner = table.acquire(root, 0, dir(2));
    const leaf = table.acquire(inner, 0, link(3));
    // With the record of the store path.
    expect(table.size).toBe(4);
    for (const id of [root, inner]) table.forget(id, 1);
    expect([root, inner, leaf].map((id) => table.has(id))).toEqual([true, true, true]);
    expect(table.digest(table.storePath(leaf)).subarray(0, 20).equals(hash(0))).toBe(true);
    table.forget(leaf, 1);
    expect([root, inner, leaf].map((id) => table.has(id))).toEqual([false, false, false]);
    expect(table.size).toBe(0);
  });

  test('all nodes can be given back at once, and the table works on', () => {
    const table = makeTable();
    for (let round = 0; round < 2; round++) {
      const root = table.acquireStorePath(hash(0), ROOT, dir(1));
      const inner = table.acquire(root, 0, dir(2));
      const leaves = [table.acquire(inner, 0, link(3)), table.acquire(inner, 1, file(4))];
      table.acquire(inner, 1, file(4));
      table.forget(inner, 1);
      expect(table.size).toBe(5);
      table.forgetAll();
      expect(table.size).toBe(0);
      expect([root, inner, ...leaves].filter((id) => table.has(id))).toEqual([]);
    }
  });

  test('tells of each store path when it gets known and when it is forgotten, under a number that is used again', () => {
    const pinned = new Map<number, string>();
    const table = new NodeTable(NodeTable.allocate(4096), {
      pin: (slot, path) => pinned.set(slot, Buffer.from(path).toString('hex')),
      unpin: (slot) => pinned.delete(slot),
    });
    const names = (...paths: number[]) => new Set(paths.map((path) => hash(path).toString('hex')));
    const root = table.acquireStorePath(hash(0), ROOT, dir(1));
    const inner = table.acquire(root, 0, file(5));
    const equal = table.acquireStorePath(hash(1), ROOT, file(5));
    const other = table.acquireStorePath(hash(2), ROOT, link(1));
    expect(new Set(pinned.values())).toEqual(names(0, 1, 2));
    table.forget(root, 1);
    expect(new Set(pinned.values())).toEqual(names(0, 1, 2));
    table.forget(inner, 1);
    expect(new Set(pinned.values())).toEqual(names(1, 2));
    table.forget(equal, 1);
    expect(new Set(pinned.values())).toEqual(names(2));
    for (let i = 3; i < 50; i++) table.forget(table.acquireStorePath(hash(i), ROOT, dir(i)), 1);
    const last = table.acquireStorePath(hash(50), ROOT, dir(1));
    expect(new Set(pinned.values())).toEqual(names(2, 50));
    expect(Math.max(...pinned.keys())).toBeLessThan(3);
    table.forget(other, 1);
    table.forget(last, 1);
    expect([pinned.size, table.size]).toEqual([0, 0]);
  });

  test('forgetting too much, or what is not known, does no harm', () => {
    const table = makeTable();
    const root = table.acquireStorePath(hash(0), ROOT, dir(1));
    const leaf = table.acquire(root, 0, file(1));
    table.forget(leaf, 2 ** 40);
    for (const id of [leaf, 0, ROOT, 3_000_000, table.storePath(root)]) table.forget(id, 1);
    expect(table.has(root)).toBe(true);
    table.forget(root, 1);
    expect(table.size).toBe(0);
  });

  test.each([1, 7, 16, 1000, 1500])(
    'of %i records gives 0 when it is full, and works when there is room',
    (capacity) => {
      const table = makeTable(capacity);
      const ids: number[] = [];
      const root = table.acquireStorePath(hash(0), ROOT, dir(0));
      if (root !== 0) ids.push(root);
      for (let i = 0; root !== 0; i++) {
        const id = table.acquire(root, i, file(i));
        if (id === 0) break;
        ids.push(id);
      }
      // Records 0 and 1 are no nodes, and one is the store path.
      expect(ids.length).toBe(Math.max(0, capacity - 3));
      const size = table.size;
      expect(table.acquireStorePath(hash(1), ROOT, dir(0))).toBe(0);
      expect(table.size).toBe(size);
      if (ids.length < 2) return;
      table.forget(ids.pop()!, 1);
      ids.push(table.acquire(root, 99_999, file(99_999)));
      expect(ids.at(-1)).not.toBe(0);
      for (const id of ids) table.forget(id, 1);
      expect(table.size).toBe(0);
    },
  );

  test('grows its index while all are found, and again after all were forgotten', () => {
    const table = makeTable(1 << 15);
    for (let round = 0; round < 2; round++) {
      const root = table.acquireStorePath(hash(0), ROOT, dir(1));
      const take = () =>
        Array.from({ length: 20_000 }, (_, i) => table.acquire(root, i, i % 2 ? spread(i) : dir(i)));
      const ids = take();
      expect(new Set(ids).size).toBe(ids.length);
      expect(take()).toEqual(ids);
      for (const id of ids) table.forget(id, 2);
      table.forget(root, 1);
      expect(table.size).toBe(0);
    }
  });
});

/** What the table should hold: by identity, how often the kernel holds it and who else does. */
class Model {
  readonly nodes = new Map<
    string,
    { id: number; lookups: number; refs: number; parent?: string; storePath: string }
  >();
  readonly storePaths = new Map<string, number>();

  get size(): number {
    return this.nodes.size + this.storePaths.size;
  }

  acquire(key: string, id: number, parent: string | undefined, storePath: string): void {
    let node = this.nodes.get(key);
    if (!node) {
      node = { id, lookups: 0, refs: 0, storePath, ...(parent === undefined ? {} : { parent }) };
      this.nodes.set(key, node);
      if (parent !== undefined) this.nodes.get(parent)!.refs++;
      this.storePaths.set(storePath, (this.storePaths.get(storePath) ?? 0) + 1);
    }
    node.lookups++;
  }

  forget(key: string, count: number): void {
    const node = this.nodes.get(key)!;
    node.lookups = Math.max(0, node.lookups - count);
    this.#release(key);
  }

  #release(key: string): void {
    const node = this.nodes.get(key)!;
    if (node.lookups > 0 || node.refs > 0) return;
    this.nodes.delete(key);
    const left = this.storePaths.get(node.storePath)! - 1;
    if (left > 0) this.storePaths.set(node.storePath, left);
    else this.storePaths.delete(node.storePath);
    if (node.parent === undefined) return;
    this.nodes.get(node.parent)!.refs--;
    this.#release(node.parent);
  }
}

const kinds = fc.constantFrom<1 | 2 | 3>(RECORD.directory, RECORD.file, RECORD.symlink);
const steps = fc.oneof(
  fc.record({
    do: fc.constant('root' as const),
    path: fc.nat(5),
    kind: kinds,
    number: fc.nat(9),
    executable: fc.boolean(),
  }),
  fc.record({
    do: fc.constant('child' as const),
    which: fc.nat(),
    entry: fc.nat(4),
    kind: kinds,
    number: fc.nat(9),
    executable: fc.boolean(),
  }),
  fc.record({ do: fc.constant('forget' as const), which: fc.nat(), count: fc.integer({ min: 1, max: 3 }) }),
);

test('the node table does what a simple model does', () => {
  forAll(fc.array(steps, { maxLength: 150 }), (script) => {
    const table = makeTable(512);
    const model = new Model();
    // What is at a place does not change: a path or an entry is what it was first.
    const places = new Map<string, NodeDescription>();
    const fixed = (place: string, node: NodeDescription) => {
      if (!places.has(place)) places.set(place, node);
      return places.get(place)!;
    };
    for (const step of script) {
      const keys = [...model.nodes.keys()];
      if (step.do === 'root') {
        const place = `/${step.path}`;
        const node = fixed(place, describeNode(step.kind, step.number, step.executable));
        const id = table.acquireStorePath(hash(step.path), ROOT, node);
        model.acquire(place, id, undefined, String(step.path));
      } else if (step.do === 'child') {
        const directories = keys.filter((key) => table.kind(model.nodes.get(key)!.id) === RECORD.directory);
        const parent = directories[step.which % directories.length];
        if (parent === undefined) continue;
        const { id: parentId, storePath } = model.nodes.get(parent)!;
        const place = `${parent}/${step.entry}`;
        const isExecutable = step.kind === RECORD.file && step.executable;
        const node = fixed(place, describeNode(step.kind, step.number, isExecutable));
        const id = table.acquire(parentId, step.entry, node);
        model.acquire(place, id, parent, storePath);
      } else if (keys.length > 0) {
        const key = keys[step.which % keys.length]!;
        const { id } = model.nodes.get(key)!;
        table.forget(id, step.count);
        model.forget(key, step.count);
        expect(table.has(id)).toBe(model.nodes.has(key));
      }
      expect(table.size).toBe(model.size);
      const ids = [...model.nodes.values()].map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      for (const [place, node] of model.nodes) {
        expect(table.has(node.id)).toBe(true);
        expect(table.digest(table.storePath(node.id))[0]).toBe(Number(node.storePath) + 1);
        if (node.parent !== undefined) expect(table.parent(node.id)).toBe(model.nodes.get(node.parent)!.id);
        expect(table.kind(node.id)).toBe(places.get(place)!.kind);
      }
    }
  });
});

test('the node table tells of a thread that has died within its lock', () => {
  const buffer = NodeTable.allocate(64);
  const holds = (thread: number) => new NodeTable(buffer).isLockedBy(thread);
  const table = new NodeTable(buffer, {
    pin: () => expect([holds(threadId), holds(threadId + 1)]).toEqual([true, false]),
    unpin: () => {},
  });
  expect(table.acquireStorePath(hash(0), ROOT, dir(1))).not.toBe(0);
  expect(holds(threadId)).toBe(false);
});

test('the node table stands several threads at once', async () => {
  const buffer = NodeTable.allocate(1 << 14);
  const workers = [1, 2, 3, 4].map(
    (seed) =>
      new Worker(join(import.meta.dirname, '../helpers/node-table-hammer.ts'), {
        workerData: { buffer, seed, rounds: 20_000 },
      }),
  );
  const wrong = await Promise.all(
    workers.map(async (worker) => {
      const [message] = await once(worker, 'message');
      await worker.terminate();
      return message;
    }),
  );
  expect(wrong).toEqual([[], [], [], []]);
  expect(new NodeTable(buffer).size).toBe(0);
});
