import { type Digest, DigestHasher } from '../../src/castore/digest.ts';
import { directoryOf } from '../contract/directories.ts';
import { randomBytes } from './random.ts';
import { localStore } from './services.ts';

const MIB = 1 << 20;

/** What greedy clients ask for, as their digests in hexadecimal. */
export interface GreedyTargets {
  /** A blob of very many chunks. */
  readonly listed: string;
  /** A large blob, and its length in bytes. */
  readonly large: string;
  readonly largeSize: number;
  /** The root of a closure of many directories. */
  readonly closure: string;
}

/** Puts what is worth being greedy for into a local store. */
export async function fillForGreed(dir: string, chunkCount: number): Promise<GreedyTargets> {
  const store = localStore(dir);
  try {
    const whole = new DigestHasher();
    const chunks = [];
    for (let i = 0; i < chunkCount; i++) {
      const bytes = Buffer.alloc(8);
      bytes.writeUInt32LE(i);
      whole.update(bytes);
      chunks.push(await store.blobs.put(bytes));
    }
    await store.blobs.flush();
    const listed = whole.digest();
    await store.blobs.assemble!(listed, chunks);

    const part = randomBytes(MIB, 'large');
    const parts = function* () {
      for (let i = 0; i < 32; i++) {
        part.writeUInt32LE(i);
        yield Buffer.from(part);
      }
    };
    const large = await store.blobs.put(parts());
    await store.blobs.flush();

    const leaves = Array.from({ length: 3000 }, (_, i) => directoryOf({ leaf: String(i).padEnd(4000, '.') }));
    const root = directoryOf(Object.fromEntries(leaves.map((leaf, i) => [`leaf-${i}`, leaf])));
    const putter = store.directories.putMany();
    for (const leaf of [...leaves, root]) await putter.add(leaf);
    await putter.close();
    await store.directories.flush();
    const hex = (digest: Digest) => digest.hex;
    return { listed: hex(listed), large: hex(large.digest), largeSize: 32 * MIB, closure: hex(root.digest) };
  } finally {
    await store.close();
  }
}
