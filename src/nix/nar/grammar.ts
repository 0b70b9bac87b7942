import { narString } from './tokens.ts';

/** States of the reader in which a value is expected, not one of a few words; as an error message names them. */
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

/** States of the reader in which one of a few words is expected. */
export type WordState =
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
export type State = WordState | keyof typeof VALUES;

/** A word as it looks on the wire, and what comes after it. */
export interface Word {
  readonly text: string;
  readonly bytes: Uint8Array;
  readonly next: State;
}

export const GRAMMAR: Record<WordState, readonly Word[]> = {
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

function word(text: string, next: State): Word {
  return { text, bytes: narString(Buffer.from(text)), next };
}

/** Names the words or the value that a state expects, for an error message. */
export function describeState(state: State): string {
  if (state in VALUES) return VALUES[state as keyof typeof VALUES];
  return GRAMMAR[state as WordState].map(({ text }) => JSON.stringify(text)).join(' or ');
}
