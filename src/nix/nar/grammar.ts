import { narString } from './tokens.ts';

/** Where something that is no word must stand, as people call it. */
const VALUES = {
  name: 'the name of an entry',
  target: 'the target of a symlink',
  size: 'the size of a file',
  contents: 'the end of the contents of a file',
  padding: 'the padding behind the contents of a file',
  end: 'the end',
  /** Behind a node: what it is depends on where the node is. */
  after: 'what follows a node',
} as const;

/** Where one of a few words must stand. */
export type WordPlace =
  | 'magic'
  | 'open'
  | 'type'
  | 'kind'
  | 'regular'
  | 'executable'
  | 'executable contents'
  | 'symlink'
  | 'end of file'
  | 'end of symlink'
  | 'directory'
  | 'entry'
  | 'name field'
  | 'node field'
  | 'end of entry';
export type Place = WordPlace | keyof typeof VALUES;

/** A word as it looks on the wire, and what comes after it. */
export interface Word {
  readonly text: string;
  readonly bytes: Uint8Array;
  readonly next: Place;
}

export const GRAMMAR: Record<WordPlace, readonly Word[]> = {
  magic: [word('nix-archive-1', 'open')],
  open: [word('(', 'type')],
  type: [word('type', 'kind')],
  kind: [word('regular', 'regular'), word('symlink', 'symlink'), word('directory', 'directory')],
  regular: [word('executable', 'executable'), word('contents', 'size')],
  executable: [word('', 'executable contents')],
  'executable contents': [word('contents', 'size')],
  symlink: [word('target', 'target')],
  'end of file': [word(')', 'after')],
  'end of symlink': [word(')', 'after')],
  directory: [word('entry', 'entry'), word(')', 'after')],
  entry: [word('(', 'name field')],
  'name field': [word('name', 'name')],
  'node field': [word('node', 'open')],
  'end of entry': [word(')', 'directory')],
};

function word(text: string, next: Place): Word {
  return { text, bytes: narString(Buffer.from(text)), next };
}

/** What must stand in a place, for people. */
export function describePlace(place: Place): string {
  if (place in VALUES) return VALUES[place as keyof typeof VALUES];
  return GRAMMAR[place as WordPlace].map(({ text }) => JSON.stringify(text)).join(' or ');
}
