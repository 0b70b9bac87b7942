import { Command } from 'commander';
import type { Composition } from '../../store/open/composition/check.ts';
import { readComposition } from '../../store/open/composition/check.ts';
import type { Instance } from '../../store/open/composition/instance.ts';
import { putsTo } from '../../store/open/description.ts';
import { shownAddress } from '../../util/url.ts';

const FILE = `
A file for a store behind a daemon, and a cache of it on this machine:
  [blobservices.root]
  type = "cache"
  near = "here"
  far = "there"
  [blobservices.here]
  type = "local"
  path = "/var/cache/store"
  [blobservices.there]
  type = "grpc"
  url = "grpc+http://store.example:8000"
and the same in [directoryservices] and [pathinfoservices].
`;

export function compositionCommand(): Command {
  return new Command('composition')
    .summary('look at files that wire services to a store')
    .description('Checks and shows composition files, which wire services to a store (--store-composition).')
    .addHelpText('after', example('check'))
    .addCommand(
      new Command('check')
        .summary('tell whether a composition file is right')
        .description('Tells whether a composition file is right. Nothing is opened.')
        .argument('<FILE>', 'the file, TOML')
        .addHelpText('after', example('check'))
        .action(check),
    )
    .addCommand(
      new Command('show')
        .summary('show how a composition file wires services')
        .description('Shows how a composition file wires services. Nothing is opened.')
        .argument('<FILE>', 'the file, TOML')
        .option('--json', 'one JSON object')
        .addHelpText('after', example('show'))
        .action(show),
    );
}

function example(command: string): string {
  return `${FILE}\nExample:\n  tvix-store composition ${command} store.toml\n  tvix-store ls --store-composition store.toml`;
}

function check(file: string): void {
  const { instances } = readComposition(file);
  process.stdout.write(`${file}: good, with ${instances.length} services\n`);
}

function show(file: string, flags: { json?: boolean }): void {
  const composition = readComposition(file);
  const entries = Object.entries(composition.entries).map(
    ([kind, entry]) => [kind, toJson(composition, entry)] as const,
  );
  if (flags.json) process.stdout.write(`${JSON.stringify(Object.fromEntries(entries), undefined, 2)}\n`);
  else for (const [kind, entry] of entries) process.stdout.write(describe(kind, entry, ''));
}

interface Shown {
  readonly name: string;
  readonly type: string;
  /** Which of its parts takes what is put. */
  readonly puts?: string;
  readonly values: Readonly<Record<string, unknown>>;
  readonly parts: Readonly<Record<string, Shown>>;
}

function toJson(composition: Composition, instance: Instance): Shown {
  const { name, typeName, kind } = instance;
  const values: Record<string, unknown> = {};
  const parts: Record<string, Shown> = {};
  for (const [key, value] of instance.values) {
    const part = composition.instances.find((one) => one === instance.parts.get(key));
    if (part) parts[key] = toJson(composition, part);
    // What is in options may be secret.
    else if (kind.keys[key]!.is === 'options') values[key] = Object.keys(value);
    else values[key] = typeof value === 'string' && value.includes('://') ? shownAddress(value) : value;
  }
  const puts = kind.through ? undefined : putsTo(instance);
  return { name, type: typeName, ...(puts ? { puts } : {}), values, parts };
}

function describe(title: string, { name, type, puts, values, parts }: Shown, indent: string): string {
  const shown = Object.entries(values).map(([key, value]) => ` ${key}=${JSON.stringify(value)}`);
  const where = puts ? ` (what is put goes ${puts})` : '';
  const below = Object.entries(parts).map(([key, part]) => describe(key, part, `${indent}  `));
  return `${indent}${title}: ${name}, ${type}${shown.join('')}${where}\n${below.join('')}`;
}
