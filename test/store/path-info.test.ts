import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CA_TYPES } from '../../src/nix/content-address.ts';
import { tvix } from '../../src/proto/messages.ts';
import { decodePathInfo, encodePathInfo, takenPathInfo } from '../../src/store/path-info/message.ts';
import type { PathInfo } from '../../src/store/path-info/path-info.ts';
import { toHex } from '../../src/util/bytes.ts';
import { StoreError } from '../../src/util/errors.ts';
import { pathInfo } from '../contract/path-infos.ts';
import { forAll, pathInfos } from '../helpers/arbitraries.ts';
import { describeFacts, facts } from '../helpers/facts.ts';
import { codeOf } from '../helpers/services.ts';

const Message = tvix.store.v1.PathInfo;

/** The values behind `"base": "PATH_INFO"`, as a message that a fact's change is made to. */
function base(): tvix.store.v1.IPathInfo {
  const fact = facts('pathinfo_proto').find(({ name }) => name === 'PATH_INFO')!;
  return Message.decode(Buffer.from(fact.expected.proto_hex, 'hex'));
}

/** How the facts name a change, and how it is made. */
const CHANGES: Record<string, (message: tvix.store.v1.IPathInfo, value: string) => void> = {
  'narinfo.ca': (message) => {
    message.narinfo!.ca = { type: 0, digest: Buffer.from([0]) };
  },
  'node.directory.name': (message, value) => {
    message.node!.directory!.name = Buffer.from(value);
  },
  'narinfo.nar_sha256': (message, value) => {
    message.narinfo!.narSha256 = Buffer.from(value, 'hex');
  },
  narinfo: (message) => {
    message.narinfo = null;
  },
  'references[1]': (message, value) => {
    message.references!.push(Buffer.from(value, 'hex'));
  },
  'narinfo.reference_names': (message) => {
    message.narinfo!.referenceNames = [];
  },
  'narinfo.signatures[0].data': (message, value) => {
    message.narinfo!.signatures = [{ name: 'key', data: Buffer.from(value, 'hex') }];
  },
};

const NODES: Record<string, tvix.castore.v1.INode> = {
  file_digest_empty: { file: { name: Buffer.from(`${'0'.repeat(32)}-dummy`), digest: new Uint8Array() } },
  file_name_invalid: { file: { name: Buffer.from('invalid'), digest: new Uint8Array(32) } },
};

describeFacts('pathinfo_validation', (all) => {
  test.each(all)('$name', async ({ name, input, expected }) => {
    const message = base();
    for (const [field, value] of Object.entries(input.change)) {
      if (field === 'node') message.node = NODES[name]!;
      else CHANGES[field]!(message, value as string);
    }
    const bytes = Message.encode(message).finish();
    if (expected.result === 'ok') expect(toHex(encodePathInfo(decodePathInfo(bytes)))).toBe(toHex(bytes));
    else expect(await codeOf(() => decodePathInfo(bytes))).toBe('INVALID_ARGUMENT');
  });
});

describeFacts('pathinfo_proto', (all) => {
  test.each(all)('$name', ({ expected }) => {
    const info = decodePathInfo(Buffer.from(expected.proto_hex, 'hex'));
    expect(info.storePath.name).toBe('dummy');
    expect(toHex(encodePathInfo(info))).toBe(expected.proto_hex);
  });
});

describeFacts('pathinfo_ca_enum', (all) => {
  test('values', () => {
    const ours = CA_TYPES.map((type) => {
      const [, mode, algorithm] = /^(fixed:r|fixed|text):(.*)$/.exec(type)!;
      const prefix = { 'fixed:r': 'NAR', fixed: 'FLAT', text: 'TEXT' }[mode!];
      return `${prefix}_${algorithm!.toUpperCase()}`;
    });
    expect(Object.fromEntries(ours.map((name, i) => [name, i]))).toEqual(all[0]!.expected);
  });
});

const SIGNED = {
  ...pathInfo('signed'),
  signatures: [{ name: 'key-1', data: new Uint8Array(64) }],
};
const messageOf = (signatures: PathInfo['signatures']) =>
  Message.decode(encodePathInfo({ ...SIGNED, signatures }));

describe('an encoded path info', () => {
  test('is read back as it was written', () => {
    forAll(pathInfos, (info) => {
      const bytes = encodePathInfo(info);
      const back = decodePathInfo(bytes);
      expect(toHex(encodePathInfo(back))).toBe(toHex(bytes));
      expect(back.storePath.toString()).toBe(info.storePath.toString());
      expect(back.narSize).toBe(info.narSize);
      expect(back.references.map(String)).toEqual(info.references.map(String));
      expect(back.deriver?.toString()).toBe(info.deriver?.toString());
      expect(back.ca?.type).toBe(info.ca?.type);
    });
  });

  test('that is brought is refused for a signature that nothing could show, and for too many', async () => {
    const [one] = SIGNED.signatures;
    for (const name of ['', 'a b', 'a\n', 'a:b', 'a'.repeat(256)])
      expect(await codeOf(() => takenPathInfo(messageOf([{ ...one!, name }]))), name).toBe(
        'INVALID_ARGUMENT',
      );
    expect(await codeOf(() => takenPathInfo(messageOf(Array(1001).fill(one))))).toBe('INVALID_ARGUMENT');
    expect(takenPathInfo(messageOf([one!])).signatures).toHaveLength(1);
    // One that is there already is left out.
    const there = { ...SIGNED, signatures: [{ ...one!, name: 'a b' }, one!] };
    expect(decodePathInfo(encodePathInfo(there)).signatures.map(({ name }) => name)).toEqual(['key-1']);
  });

  test('throws nothing but INVALID_ARGUMENT for random bytes', () => {
    forAll(fc.uint8Array({ maxLength: 150 }), onlyRefuses, 2000);
  });

  test('throws nothing but INVALID_ARGUMENT when it is damaged', () => {
    forAll(
      fc.tuple(pathInfos, fc.nat(), fc.nat(255), fc.boolean()),
      ([info, at, byte, cut]) => {
        const bytes = Buffer.from(encodePathInfo(info));
        const position = at % bytes.length;
        bytes[position] = byte;
        onlyRefuses(cut ? bytes.subarray(0, position) : bytes);
      },
      2000,
    );
  });

  const valid = () => Message.decode(encodePathInfo(pathInfo('valid')));

  test.each<[string, (message: tvix.store.v1.IPathInfo) => void]>([
    [
      'no node',
      (message) => {
        message.node = null;
      },
    ],
    [
      'a node of no kind',
      (message) => {
        message.node = {};
      },
    ],
    [
      'a reference that is not its name',
      (message) => {
        message.references![0] = new Uint8Array(20);
      },
    ],
    [
      'an absolute reference',
      (message) => {
        message.narinfo!.referenceNames![0] = `/nix/store/${message.narinfo!.referenceNames![0]}`;
      },
    ],
    [
      'a deriver with a bad name',
      (message) => {
        message.narinfo!.deriver = { name: 'a b', digest: new Uint8Array(20) };
      },
    ],
    [
      'a deriver with a short hash',
      (message) => {
        message.narinfo!.deriver = { name: 'a', digest: new Uint8Array(19) };
      },
    ],
    [
      'an unknown content address',
      (message) => {
        message.narinfo!.ca = { type: 9 as number as 8, digest: new Uint8Array(32) };
      },
    ],
    [
      'a content address without digest',
      (message) => {
        message.narinfo!.ca = { type: 8 };
      },
    ],
    [
      'a signature without data',
      (message) => {
        message.narinfo!.signatures = [{ name: 'key' }];
      },
    ],
    [
      'a node that is not named by a store path',
      (message) => {
        message.node!.file!.name = Buffer.from([0xff]);
      },
    ],
  ])('cannot have %s', async (_, change) => {
    const message = valid();
    expect(() => decodePathInfo(Message.encode(message).finish())).not.toThrow();
    change(message);
    expect(await codeOf(() => decodePathInfo(Message.encode(message).finish()))).toBe('INVALID_ARGUMENT');
  });
});

function onlyRefuses(bytes: Uint8Array): void {
  try {
    decodePathInfo(bytes);
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'INVALID_ARGUMENT') throw error;
  }
}
