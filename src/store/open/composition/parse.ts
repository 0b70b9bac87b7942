import type { AST } from 'toml-eslint-parser';
import { parseTOML } from 'toml-eslint-parser';
import { messageOf, UsageError } from '../../../util/errors.ts';

/** A value in a TOML file and the line it stands on. */
export interface Located {
  readonly line: number;
  /** `undefined` for what no composition has: dates, floating point. */
  readonly value: string | number | boolean | Located[] | Table | undefined;
}

/** By key. */
export type Table = Map<string, Located>;

/** Reads a TOML file's text. Throws a UsageError that names the place. */
export function parseToml(text: string, file: string): Table {
  let program: AST.TOMLProgram;
  try {
    program = parseTOML(text, { tomlVersion: '1.0' });
  } catch (error) {
    const { lineNumber, column } = error as { lineNumber?: number; column?: number };
    if (lineNumber === undefined) throw error;
    const message = messageOf(error);
    throw new UsageError(
      `${file}:${lineNumber}:${column! + 1}: ${message[0]!.toLowerCase()}${message.slice(1)}`,
    );
  }
  const root: Table = new Map();
  for (const node of program.body[0].body) {
    if (node.type === 'TOMLKeyValue') {
      assign(root, node);
      continue;
    }
    const line = node.loc.start.line;
    if (node.kind === 'array') throw new UsageError(`${file}:${line}: a list of tables has no meaning here`);
    const table = descend(root, keysOf(node.key), line);
    for (const pair of node.body) assign(table, pair);
  }
  return root;
}

/** The parser has refused what is defined twice, and keys below what is no table. */
function assign(table: Table, { key, value, loc }: AST.TOMLKeyValue): void {
  const names = keysOf(key);
  const last = names.pop()!;
  descend(table, names, loc.start.line).set(last, located(value, loc.start.line));
}

function descend(table: Table, names: readonly string[], line: number): Table {
  let at = table;
  for (const name of names) {
    let next = at.get(name)?.value;
    if (!(next instanceof Map)) {
      next = new Map();
      at.set(name, { line, value: next });
    }
    at = next;
  }
  return at;
}

function located(node: AST.TOMLContentNode, line: number): Located {
  switch (node.type) {
    case 'TOMLArray':
      return { line, value: node.elements.map((element) => located(element, element.loc.start.line)) };
    case 'TOMLInlineTable': {
      const value: Table = new Map();
      for (const pair of node.body) assign(value, pair);
      return { line, value };
    }
    case 'TOMLValue':
      return { line, value: isPlain(node) ? node.value : undefined };
  }
}

function isPlain(
  node: AST.TOMLValue,
): node is AST.TOMLStringValue | AST.TOMLIntegerValue | AST.TOMLBooleanValue {
  return node.kind === 'string' || node.kind === 'integer' || node.kind === 'boolean';
}

function keysOf(key: AST.TOMLKey): string[] {
  return key.keys.map((part) => (part.type === 'TOMLBare' ? part.name : part.value));
}
