import { readSecretKeyFile } from '../../nix/key-file.ts';
import { SigningPathInfoService } from '../path-info/signing.ts';
import type { Contents, Store } from '../services.ts';

/**
 * The store, but what is put there is checked and signed with the key in a file. `contents` is where path infos
 * have their contents, if that is not the same store. Throws INVALID_ARGUMENT, and closes the store, when there is
 * no key in the file.
 */
export async function withSigning<S extends Store>(
  store: S,
  keyFile: string,
  contents: Contents = store,
): Promise<S> {
  try {
    const key = await readSecretKeyFile(keyFile);
    return { ...store, pathInfos: new SigningPathInfoService(store.pathInfos, contents, key) };
  } catch (error) {
    await store.close();
    throw error;
  }
}
