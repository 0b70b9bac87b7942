// Generates the protobuf code of protos/ into src/proto/generated, or with `--copy DIR` copies it there.
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { describeFiles } from './descriptors.ts';

const root = join(import.meta.dirname, '..');
const protos = join(root, 'protos');
const generated = join(root, 'src/proto/generated');
const copyTo = process.argv[2] === '--copy' ? process.argv[3] : undefined;

/** Modules with code for messages, and the folders of protos/ that each is made from. */
const MODULES = { messages: ['tvix'], standard: ['grpc'], remote: ['build', 'google'] };

/** Files that are spoken under a second name as well, by part of their name; they differ in nothing else. */
const SECOND_NAMES = { tvix: 'snix', 'grpc/reflection/v1': 'grpc/reflection/v1alpha' };

if (copyTo) cpSync(generated, join(root, copyTo), { recursive: true });
else await generate();

async function generate(): Promise<void> {
  const names = readdirSync(protos, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.proto'))
    .sort();
  const sources = [...names.map((name) => join(protos, name)), ...makers()];
  const newest = Math.max(...sources.map((path) => statSync(path).mtimeMs));
  const last = join(generated, 'descriptors.json');
  if ((statSync(last, { throwIfNoEntry: false })?.mtimeMs ?? 0) > newest) return;
  rmSync(generated, { recursive: true, force: true });
  mkdirSync(generated, { recursive: true });
  for (const [module, folders] of Object.entries(MODULES)) {
    await writeCode(
      module,
      names.filter((name) => folders.some((folder) => name.startsWith(`${folder}/`))),
    );
  }
  const texts = Object.fromEntries(names.flatMap(namedTexts));
  for (const [name, text] of Object.entries(texts)) {
    mkdirSync(dirname(join(generated, 'protos', name)), { recursive: true });
    writeFileSync(join(generated, 'protos', name), text);
  }
  writeFileSync(last, JSON.stringify(describeFiles(texts)));
  console.log(`generated ${relative(root, generated)} from ${names.length} files`);
}

/** What makes the code: when it changes, all is made anew. */
function makers(): string[] {
  return ['gen-proto.ts', 'descriptors.ts'].map((name) => join(root, 'scripts', name));
}

async function writeCode(module: string, names: readonly string[]): Promise<void> {
  const { default: pbjs } = await import('protobufjs-cli/pbjs.js');
  const { default: pbts } = await import('protobufjs-cli/pbts.js');
  const target = join(generated, `${module}.js`);
  const flags = ['--no-create', '--no-verify', '--no-convert', '--no-delimited'];
  const paths = names.map((name) => join(protos, name));
  await promisify(pbjs.main)([
    '-t',
    'static-module',
    '-w',
    'es6',
    ...flags,
    '-p',
    protos,
    '-o',
    target,
    ...paths,
  ]);
  await promisify(pbts.main)(['-o', join(generated, `${module}.d.ts`), target]);
}

/** A file under its name and, where it has one, its second. */
function namedTexts(name: string): [string, string][] {
  const text = readFileSync(join(protos, name), 'utf8');
  const [first, second] = Object.entries(SECOND_NAMES).find(([part]) => name.startsWith(`${part}/`)) ?? [];
  if (!first || !second) return [[name, text]];
  // As a path in an import, and as a package.
  const renamed = text
    .replaceAll(`${first}/`, `${second}/`)
    .replaceAll(new RegExp(`\\b${first.replaceAll('/', '\\.')}(?=[.;])`, 'g'), second.replaceAll('/', '.'));
  return [
    [name, text],
    [name.replace(first, second), renamed],
  ];
}
