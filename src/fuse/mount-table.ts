import { readFileSync } from 'node:fs';

/** A line of /proc/self/mountinfo. */
export interface MountEntry {
  readonly mountPoint: string;
  /** `major:minor` of the file system's device. */
  readonly device: string;
  readonly type: string;
}

/** The mounts at a path, the topmost last. Reading this touches no mounted file system. */
export function mountsAt(path: string): MountEntry[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(parseLine)
    .filter((entry): entry is MountEntry => entry?.mountPoint === path);
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
