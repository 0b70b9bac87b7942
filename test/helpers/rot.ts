import { chmodSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** The chunk files of the store in a directory. */
export function chunkFiles(dir: string): string[] {
  const chunks = join(dir, 'chunks');
  const names = readdirSync(chunks, { recursive: true, encoding: 'utf8' }).map((name) => join(chunks, name));
  return names.filter((name) => statSync(name).isFile()).sort();
}

/** Changes four bytes in the middle of a file. */
export function rot(path: string): void {
  const bytes = readFileSync(path);
  for (let at = 1000; at < 1004; at++) bytes[at]! ^= 0x55;
  chmodSync(path, 0o644);
  writeFileSync(path, bytes);
}
