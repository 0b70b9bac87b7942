import { open } from 'node:fs/promises';
import { collect } from '../util/bytes.ts';
import { invalid, reasonOf, UsageError } from '../util/errors.ts';
import { log } from '../util/log.ts';
import { writeWholeFile } from '../util/system/whole-file.ts';
import { SecretKey } from './key.ts';

/** No key is longer: whatever else the file is, it is not read to its end. */
const MAX_LENGTH = 4096;
const OTHERS_READ = 0o044;

/**
 * Reads the secret key in a file, as `nix key generate-secret` makes it. Warns of a file that others can read.
 * Throws a UsageError when there is none.
 */
export async function readSecretKeyFile(path: string): Promise<SecretKey> {
  try {
    await using file = await open(path);
    const stat = await file.stat();
    if (stat.isFile() && (stat.mode & OTHERS_READ) !== 0) {
      log.warn('others can read the secret key: chmod 600 it', { file: path });
    }
    return await readSecretKey(file.createReadStream({ autoClose: false }));
  } catch (error) {
    throw new UsageError(`cannot use the secret key in ${path}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Reads a secret key that comes from somewhere else. Throws INVALID_ARGUMENT. */
export async function readSecretKey(source: AsyncIterable<Uint8Array>): Promise<SecretKey> {
  const bytes = await collect(source, MAX_LENGTH);
  if (!bytes) throw invalid(`not a secret key: it is longer than ${MAX_LENGTH} bytes`);
  return SecretKey.parse(Buffer.from(bytes).toString());
}

/** Writes a secret key into a new file that only its owner can read. Throws FAILED_PRECONDITION when there is one. */
export async function writeSecretKeyFile(path: string, key: SecretKey): Promise<void> {
  await writeWholeFile(path, [Buffer.from(`${key.secret()}\n`)], { mode: 0o600, exclusive: true });
}
