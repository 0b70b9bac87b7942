// Checks that package-lock.json is whole: what any package in it needs, on any platform, is in it too. npm leaves
// out other platforms' packages when it installs from a lock that never had them, and "npm ci" then refuses it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Entry {
  readonly version?: string;
  readonly integrity?: string;
  readonly dependencies?: Record<string, string>;
  readonly devDependencies?: Record<string, string>;
  readonly optionalDependencies?: Record<string, string>;
  readonly peerDependencies?: Record<string, string>;
  readonly peerDependenciesMeta?: Record<string, { readonly optional?: boolean }>;
}

const root = join(import.meta.dirname, '..');
const read = (name: string) => JSON.parse(readFileSync(join(root, name), 'utf8'));
const packages: Record<string, Entry> = read('package-lock.json').packages;
const manifest: Entry = read('package.json');
const problems: string[] = [];

for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies'] as const) {
  if (JSON.stringify(packages['']?.[kind]) !== JSON.stringify(manifest[kind])) {
    problems.push(`its ${kind} are not those of package.json`);
  }
}
for (const [place, entry] of Object.entries(packages)) {
  if (place !== '' && !entry.integrity) problems.push(`${place} has no integrity`);
  for (const name of needed(entry)) {
    if (!found(place, name)) problems.push(`${name} is missing, which ${place || 'the project'} needs`);
  }
}
for (const problem of problems) console.error(`package-lock.json: ${problem}`);
if (problems.length > 0) process.exit(1);
console.log(`package-lock.json: ${Object.keys(packages).length} packages, whole`);

function needed(entry: Entry): string[] {
  const peers = Object.keys(entry.peerDependencies ?? {});
  return [
    ...Object.keys({ ...entry.dependencies, ...entry.devDependencies, ...entry.optionalDependencies }),
    ...peers.filter((name) => !entry.peerDependenciesMeta?.[name]?.optional),
  ];
}

/** Whether Node would find a package from a place in the tree. */
function found(place: string, name: string): boolean {
  for (let folder = place; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('node_modules/') - 1))) {
    if (`${folder && `${folder}/`}node_modules/${name}` in packages) return true;
    if (folder === '') return false;
  }
}
