import { encodeBase32 } from '../../nix/base32.ts';
import { printContentAddress } from '../../nix/content-address.ts';
import { printNamed } from '../../nix/named-bytes.ts';
import { STORE_PATH_FORMS } from '../../store/named-path.ts';
import { openStore } from '../../store/open/open-store.ts';
import type { PathInfo } from '../../store/path-info/path-info.ts';
import type { Store } from '../../store/services.ts';
import { asBuffer } from '../../util/bytes.ts';
import type { Chosen } from '../chosen-paths.ts';
import { allOption, choosePaths, chosenPaths } from '../chosen-paths.ts';
import { Command } from '../command.ts';
import type { ReadFlags } from '../store-options.ts';
import { addressesOf, withReadOptions } from '../store-options.ts';

interface PathInfoFlags extends ReadFlags {
  readonly all?: boolean;
  readonly json?: boolean;
}

export function pathInfoCommand(): Command {
  return withReadOptions(new Command('path-info'))
    .summary('show what is known about store paths')
    .description(
      'Shows what is known about store paths. Without any, or with --all, lists the names of all, and with --json what is ' +
        'known about them.',
    )
    .argument('[STORE_PATH...]', STORE_PATH_FORMS)
    .addOption(allOption())
    .option('--json', 'print one JSON object, keyed by store path')
    .example('tvix-store path-info --json 8vbqaxapywkvv1hacdja3pi075r14d43-a_dir')
    .action(run);
}

async function run(names: string[], flags: PathInfoFlags): Promise<void> {
  const chosen = choosePaths(names, flags.all ?? names.length === 0);
  const store = await openStore(addressesOf(flags), 'read');
  try {
    if (flags.json) await printJson(store, chosen);
    else
      for await (const info of chosenPaths(store, chosen))
        process.stdout.write(chosen === 'all' ? `${info.storePath.absolute()}\n` : describe(info));
  } finally {
    await store.close();
  }
}

/** Streamed: a store may hold millions. */
async function printJson(store: Store, chosen: Chosen): Promise<void> {
  let separator = '{';
  for await (const info of chosenPaths(store, chosen)) {
    process.stdout.write(
      `${separator}\n  ${JSON.stringify(info.storePath.absolute())}: ${JSON.stringify(toJson(info))}`,
    );
    separator = ',';
  }
  process.stdout.write(separator === '{' ? '{}\n' : '\n}\n');
}

function toJson(info: PathInfo) {
  const { node } = info;
  return {
    narHash: `sha256:${encodeBase32(info.narSha256)}`,
    narSize: Number(info.narSize),
    references: info.references.map((path) => path.absolute()),
    ...(info.deriver ? { deriver: `${info.deriver.absolute()}.drv` } : {}),
    ...(info.ca ? { ca: printContentAddress(info.ca) } : {}),
    signatures: info.signatures.map(printNamed),
    root:
      node.kind === 'symlink'
        ? { type: 'symlink' as const, target: asBuffer(node.target).toString() }
        : {
            type: node.kind === 'file' ? ('regular' as const) : ('directory' as const),
            digest: node.digest.toString(),
            size: Number(node.size),
            ...(node.kind === 'file' ? { executable: node.executable } : {}),
          },
  };
}

function describe(info: PathInfo): string {
  const { root, ...rest } = toJson(info);
  const lines = [
    `StorePath: ${info.storePath.absolute()}`,
    `NarHash: ${rest.narHash}`,
    `NarSize: ${rest.narSize}`,
  ];
  lines.push(`References: ${info.references.join(' ')}`.trimEnd());
  if (info.deriver) lines.push(`Deriver: ${info.deriver}.drv`);
  for (const signature of rest.signatures) lines.push(`Sig: ${signature}`);
  if (rest.ca) lines.push(`CA: ${rest.ca}`);
  lines.push(
    root.type === 'symlink' ? `Root: symlink to ${root.target}` : `Root: ${root.type} ${root.digest}`,
  );
  return `${lines.join('\n')}\n`;
}
