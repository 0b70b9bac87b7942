import { nodeFromMessage, nodeToMessage } from '../../castore/node-message.ts';
import type { ContentAddress } from '../../nix/content-address.ts';
import { CA_TYPES, caAlgorithm } from '../../nix/content-address.ts';
import { Hash } from '../../nix/hash.ts';
import { isKeyName } from '../../nix/named-bytes.ts';
import type { Signature } from '../../nix/signature.ts';
import { MAX_SIGNATURES, SIGNATURE_LENGTH } from '../../nix/signature.ts';
import { StorePath } from '../../nix/store-path.ts';
import { toBigInt, toLong } from '../../proto/long.ts';
import { tvix } from '../../proto/messages.ts';
import { asBuffer } from '../../util/bytes.ts';
import { invalid, messageOf } from '../../util/errors.ts';
import type { PathInfo } from './path-info.ts';

type Message = tvix.store.v1.IPathInfo;
const SHA256_LENGTH = 32;

/** Reads an encoded PathInfo. Throws INVALID_ARGUMENT by the rules of protocol.md 1.7. */
export function decodePathInfo(bytes: Uint8Array): PathInfo {
  let message: Message;
  try {
    message = tvix.store.v1.PathInfo.decode(bytes);
  } catch (error) {
    throw invalid(`invalid path info: ${messageOf(error)}`, { cause: error });
  }
  return pathInfoFromMessage(message);
}

export function encodePathInfo(info: PathInfo): Uint8Array {
  return tvix.store.v1.PathInfo.encode(pathInfoToMessage(info)).finish();
}

/**
 * Checks a message that somebody brings, who is told more strictly what cannot be than whoever reads what is there: nothing
 * else can show a signature whose key has no proper name. Throws INVALID_ARGUMENT.
 */
export function takenPathInfo(message: Message): PathInfo {
  const signatures = message.narinfo?.signatures ?? [];
  if (signatures.length > MAX_SIGNATURES)
    throw invalid(
      `invalid path info: ${signatures.length} signatures, at most ${MAX_SIGNATURES} are allowed`,
    );
  for (const { name } of signatures) {
    if (!isKeyName(name ?? ''))
      throw invalid(
        `invalid path info: the key of a signature cannot have the name ${JSON.stringify(name ?? '').slice(0, 200)}`,
      );
  }
  return pathInfoFromMessage(message);
}

/** Checks a message. Throws INVALID_ARGUMENT by the rules of protocol.md 1.7. Signatures that cannot be shown are left out. */
export function pathInfoFromMessage(message: Message): PathInfo {
  const { name, node } = nodeFromMessage(message.node);
  const narinfo = message.narinfo;
  if (!narinfo) throw invalid('invalid path info: it lacks the narinfo');
  const narSha256 = narinfo.narSha256 ?? new Uint8Array();
  if (narSha256.length !== SHA256_LENGTH) {
    throw invalid(`invalid path info: invalid NAR hash length ${narSha256.length}, want ${SHA256_LENGTH}`);
  }
  return {
    storePath: StorePath.parse(asBuffer(name).toString('latin1')),
    node,
    references: references(message.references ?? [], narinfo.referenceNames ?? []),
    narSize: toBigInt(narinfo.narSize),
    narSha256,
    signatures: (narinfo.signatures ?? []).map(signature).filter(({ name }) => isKeyName(name)),
    ...(narinfo.deriver ? { deriver: deriver(narinfo.deriver) } : {}),
    ...(narinfo.ca ? { ca: contentAddress(narinfo.ca) } : {}),
  };
}

function references(digests: readonly Uint8Array[], names: readonly string[]): StorePath[] {
  if (digests.length !== names.length) {
    throw invalid(`invalid path info: ${digests.length} references but ${names.length} reference names`);
  }
  return names.map((name, i) => {
    const path = StorePath.parse(name);
    if (!asBuffer(path.hash).equals(digests[i]!)) {
      throw invalid(`invalid path info: reference ${i} does not match its name ${JSON.stringify(name)}`);
    }
    return path;
  });
}

function signature({ name, data }: tvix.store.v1.NARInfo.ISignature): Signature {
  if (data?.length !== SIGNATURE_LENGTH) {
    throw invalid(
      `invalid path info: invalid signature length ${data?.length ?? 0}, want ${SIGNATURE_LENGTH}`,
    );
  }
  return { name: name ?? '', data };
}

function deriver(message: tvix.store.v1.IStorePath): StorePath {
  return StorePath.of(message.digest ?? new Uint8Array(), message.name ?? '');
}

function contentAddress(message: tvix.store.v1.NARInfo.ICA): ContentAddress {
  const type = CA_TYPES[message.type ?? 0];
  if (!type) throw invalid(`invalid path info: unknown content address type ${message.type}`);
  const { digest } = Hash.of(caAlgorithm(type), message.digest ?? new Uint8Array());
  return { type, digest };
}

export function pathInfoToMessage(info: PathInfo): Message {
  return {
    node: nodeToMessage(Buffer.from(info.storePath.toString(), 'latin1'), info.node),
    references: info.references.map((path) => path.hash),
    narinfo: {
      narSize: toLong(info.narSize),
      narSha256: info.narSha256,
      signatures: info.signatures.map(({ name, data }) => ({ name, data })),
      referenceNames: info.references.map(String),
      deriver: info.deriver ? { name: info.deriver.name, digest: info.deriver.hash } : null,
      ca: info.ca ? { type: CA_TYPES.indexOf(info.ca.type), digest: info.ca.digest } : null,
    },
  };
}
