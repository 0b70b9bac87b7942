// Checks that imports only go up the list of layers (CONTRIBUTING.md), and that no files import each other
// in a circle.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const LAYERS = [
  'util',
  'proto',
  'castore',
  'nix',
  'store',
  'fs',
  'fuse',
  'mount',
  'server',
  'api',
  'index.ts',
  'cli',
];
/** Layers that must not be reached although they stand above. */
const FORBIDDEN: Record<string, readonly string[]> = {
  fuse: ['castore', 'nix', 'store', 'proto'],
  nix: ['castore', 'proto'],
};

/** Packages that only one folder may use: what they hand out is not for everybody (castore/local/table.ts). */
const OWNED: Record<string, string> = { lmdb: 'castore/local/' };

const src = join(import.meta.dirname, '../src');
const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .map((name) => join(src, name))
  .filter((path) => path.endsWith('.ts') && !path.includes('/generated/'));
const layerOf = (path: string) => relative(src, path).split('/')[0]!;
const imports = new Map(files.map((file) => [file, importsOf(file)]));
const problems: string[] = [];

for (const [file, targets] of imports) {
  const layer = layerOf(file);
  if (!LAYERS.includes(layer)) problems.push(`${relative(src, file)}: no layer ${layer}`);
  for (const target of targets) {
    const other = layerOf(target);
    if (LAYERS.indexOf(other) > LAYERS.indexOf(layer) || FORBIDDEN[layer]?.includes(other)) {
      problems.push(`${relative(src, file)} (${layer}) must not import ${relative(src, target)} (${other})`);
    }
  }
}
for (const file of files) {
  for (const [, name] of readFileSync(file, 'utf8').matchAll(
    /(?:from|import|lazyPackage<.*>)\s*\(?\s*'([^.'][^']*)'/g,
  )) {
    const owner = OWNED[name!];
    if (owner && !relative(src, file).startsWith(owner)) {
      problems.push(`${relative(src, file)}: only ${owner} may import ${name}`);
    }
  }
}
const state = new Map<string, 'open' | 'done'>();
for (const file of files) visit(file, []);

for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exit(1);
console.log(`layers: ${files.length} files in order`);

function importsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map((match) =>
    resolve(dirname(file), match[1]!),
  );
}

function visit(file: string, path: readonly string[]): void {
  if (state.get(file) === 'done') return;
  if (state.get(file) === 'open') {
    const circle = [...path.slice(path.indexOf(file)), file].map((one) => relative(src, one));
    problems.push(`a circle of imports: ${circle.join(' -> ')}`);
    return;
  }
  state.set(file, 'open');
  for (const next of imports.get(file) ?? []) visit(next, [...path, file]);
  state.set(file, 'done');
}
