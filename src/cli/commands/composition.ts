import type { Composition } from '../../store/open/composition/check.ts';
import { readComposition } from '../../store/open/composition/check.ts';
import type { Instance } from '../../store/open/composition/instance.ts';
import { putsTo } from '../../store/open/description.ts';
import { shownAddress } from '../../util/url.ts';
import { Command } from '../command.ts';

const FILE = [
  '',
  '# store.toml: a store behind a daemon, with a cache on this machine',
  '[blobservices.root]',
  'type = "cache"',
  'near = "here"',
  'far = "there"',
  '[blobservices.here]',
  'type = "local"',
  'path = "/var/cache/store"',
  '[blobservices.there]',
  'type = "grpc"',
  'url = "grpc+http://store.example:8000"',
  '# and the same under [directoryservices] and [pathinfoservices]',
];

export function compositionCommand(): Command {
  return new Command('composition')
    .summary('check and show composition files')
    .description(
      'Checks and shows composition files, which describe how a store is made of services (--store-composition).',
    )
    .example(...examples('check'))
    .addCommand(
      new Command('check')
        .summary('check a composition file')
        .description('Checks a composition file. Nothing is opened.')
        .argument('<FILE>', 'the composition file, in TOML')
        .example(...examples('check'))
        .action(check),
    )
    .addCommand(
      new Command('show')
        .summary('show the services of a composition file')
        .description(
          'Shows the services of a composition file, and how they are connected. Nothing is opened.',
        )
        .argument('<FILE>', 'the composition file, in TOML')
        .option('--json', 'print one JSON object')
        .example(...examples('show'))
        .action(show),
    );
}

function examples(command: string): string[] {
  return [
    `tvix-store composition ${command} store.toml`,
    'tvix-store ls --store-composition store.toml',
    ...FILE,
  ];
}

function check(file: string): void {
  const { instances } = readComposition(file);
  process.stdout.write(`${file}: valid, with ${instances.length} services\n`);
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
