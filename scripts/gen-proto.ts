// Generates the protobuf code of protos/ into src/proto/generated, or with `--copy DIR` copies it there.
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';

const root = join(import.meta.dirname, '..');
const generated = join(root, 'src/proto/generated');
const copyTo = process.argv[2] === '--copy' ? process.argv[3] : undefined;

if (copyTo) cpSync(generated, join(root, copyTo), { recursive: true });
else await generate();

async function generate(): Promise<void> {
  const protos = readdirSync(join(root, 'protos'), { recursive: true, encoding: 'utf8' })
    .map((name) => join(root, 'protos', name))
    .filter((path) => path.endsWith('.proto'))
    .sort();
  const target = join(generated, 'messages.js');
  const newest = Math.max(...protos.map((path) => statSync(path).mtimeMs));
  if ((statSync(target, { throwIfNoEntry: false })?.mtimeMs ?? 0) > newest) return;
  mkdirSync(generated, { recursive: true });
  const { default: pbjs } = await import('protobufjs-cli/pbjs.js');
  const { default: pbts } = await import('protobufjs-cli/pbts.js');
  const options = [
    '-t',
    'static-module',
    '-w',
    'es6',
    '--no-create',
    '--no-verify',
    '--no-convert',
    '--no-delimited',
  ];
  await promisify(pbjs.main)([...options, '-p', join(root, 'protos'), '-o', target, ...protos]);
  await promisify(pbts.main)(['-o', join(generated, 'messages.d.ts'), target]);
  for (const path of protos) writeDialects(path);
  console.log(`generated ${relative(root, target)} from ${protos.length} files`);
}

/**
 * The same messages are spoken under two package names. Reflection describes both, from copies of the files
 * that differ in nothing else.
 */
function writeDialects(path: string): void {
  const text = readFileSync(path, 'utf8');
  for (const dialect of ['tvix', 'snix']) {
    const copy = join(generated, 'protos', relative(join(root, 'protos'), path).replace('tvix', dialect));
    mkdirSync(dirname(copy), { recursive: true });
    writeFileSync(copy, text.replace(/\btvix([./])/g, `${dialect}$1`));
  }
}
