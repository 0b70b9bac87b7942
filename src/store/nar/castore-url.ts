import type { Node } from '../../castore/node.ts';
import { decodeRoot } from '../../castore/node-message.ts';

/** Where nar-bridges, ours and those of tvix and snix, have the NAR of a root: base-64 of the encoded node, in the alphabet of URLs. */
const NAR_OF_ROOT = /^nar\/(?:snix|tvix)-castore\/([\w-]{1,8192})={0,2}(?:\?|$)/;

/** The castore root that the URL of a NAR names; `undefined` where it names none. Nobody has vouched for it. */
export function rootInUrl(url: string): Node | undefined {
  const [, text] = NAR_OF_ROOT.exec(url) ?? [];
  if (text === undefined) return undefined;
  try {
    return decodeRoot(Buffer.from(text, 'base64url'));
  } catch {
    return undefined;
  }
}
