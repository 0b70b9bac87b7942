import { readFileSync } from 'node:fs';

/** The type that our mounts have in the table. */
export const TYPE = 'fuse.tvix-store';

/** A line of /proc/self/mountinfo. */
export interface MountEntry {
  readonly mountPoint: string;
  /** `major:minor` of the file system's device. */
  readonly device: string;
  readonly type: string;
}

/** The mounts at a path, the topmost last. Reading this touches no mounted file system. */
export function mountsAt(path: string): MountEntry[] {
  // Bytes, some of which are escaped: names need not be ASCII, nor UTF-8.
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .split('\n')
    .map(parseLine)
    .filter((entry): entry is MountEntry => entry?.mountPoint === path);
}

/** Whether one of our mounts is there. */
export function isMounted(mountPoint: string): boolean {
  return mountsAt(mountPoint).at(-1)?.type === TYPE;
}

function parseLine(line: string): MountEntry | undefined {
  const [left, right] = line.split(' - ');
  const fields = left?.split(' ');
  if (!right || !fields || fields.length < 5) return undefined;
  const plain = (text: string) =>
    text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  return {
    device: fields[2]!,
    mountPoint: Buffer.from(plain(fields[4]!), 'latin1').toString(),
    type: right.split(' ')[0]!,
  };
}
