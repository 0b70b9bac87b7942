import type { Description } from '../description.ts';
import type { Kind } from '../kind.ts';

/** A store that verifies what is put into it, and signs it with the key in a file. */
export const KEYFILE_SIGNING: Kind = {
  keys: {
    inner: { is: 'service', required: true },
    keyfile: { is: 'path', required: true },
  },
  makes: {
    pathInfos: async (site) => {
      // Loaded when they are needed: reading does without.
      const { readSecretKeyFile } = await import('../../../nix/key-file.ts');
      const { SigningPathInfoService } = await import('../../path-info/signing.ts');
      const key = await readSecretKeyFile(site.given.text('keyfile'));
      const inner = await site.part('inner', 'pathInfos');
      return { ...inner, service: new SigningPathInfoService(inner.service, site.contents, key) };
    },
  },
  puts: 'inner',
  through: true,
};

/** Describes a store that signs whatever is put into `inner`, with the key in a file. */
export function signing(inner: Description, keyFile: string): Description {
  return {
    name: inner.name,
    typeName: 'keyfile-signing',
    kind: KEYFILE_SIGNING,
    values: new Map([['keyfile', keyFile]]),
    parts: new Map([['inner', inner]]),
  };
}
