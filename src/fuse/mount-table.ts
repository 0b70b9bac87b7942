import { openSync, readSync } from 'node:fs';

/** The type that our mounts have in the table. */
export const TYPE = 'fuse.tvix-store';

/** A line of /proc/self/mountinfo. */
export interface MountEntry {
  /** Of this mount wherever it is moved to; of another one when it has gone. */
  readonly id: string;
  /** The mount that it is mounted on. */
  readonly parent: string;
  readonly mountPoint: string;
  /** `major:minor` of the file system's device. */
  readonly device: string;
  readonly type: string;
}

/** Bytes of the table that are read at once. */
const PART = 1 << 16;

/** The table of mounts. It stays open: whoever has no descriptor left must still be able to unmount. */
let table: number | undefined;

/** All mounts. Reading this touches no mounted file system. */
function mounts(): MountEntry[] {
  table ??= openSync('/proc/self/mountinfo', 'r');
  const part = Buffer.allocUnsafe(PART);
  let text = '';
  for (let at = 0, length = PART; length > 0; at += length) {
    length = readSync(table, part, 0, PART, at);
    // Bytes, some of which are escaped: names need not be ASCII, nor UTF-8.
    text += part.toString('latin1', 0, length);
  }
  return text
    .split('\n')
    .map(parseLine)
    .filter((entry) => entry !== undefined);
}

/** The topmost mount at a path. */
export function mountAt(path: string): MountEntry | undefined {
  return mounts().findLast((entry) => entry.mountPoint === path);
}

/** Whether one of our mounts is there. */
export function isMounted(mountPoint: string): boolean {
  return mountAt(mountPoint)?.type === TYPE;
}

/** The mount that has this id now, if any. */
export function mountOf(id: string): MountEntry | undefined {
  return mounts().find((entry) => entry.id === id);
}

/** Whether the path of a mount leads to another one, which lies over it. */
export function isCovered({ id, mountPoint }: MountEntry): boolean {
  const there = mounts().filter((entry) => entry.mountPoint === mountPoint);
  return there.at(-1)?.id !== id || there.some(({ parent }) => parent === id);
}

function parseLine(line: string): MountEntry | undefined {
  const [left, right] = line.split(' - ');
  const fields = left?.split(' ');
  if (!right || !fields || fields.length < 5) return undefined;
  const plain = (text: string) =>
    text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  return {
    id: fields[0]!,
    parent: fields[1]!,
    device: fields[2]!,
    mountPoint: Buffer.from(plain(fields[4]!), 'latin1').toString(),
    type: right.split(' ')[0]!,
  };
}
