import type { Goal, Line } from './experiment.ts';
import { median } from './statistics.ts';

type Values = Readonly<Record<string, number>>;

/** A goal, and what each of our columns reached; nothing where it was not measured. */
interface JudgedGoal extends Goal {
  readonly reached?: Values;
  readonly met?: boolean;
}

/** A line with the medians of its columns. */
export interface Result {
  readonly row: string;
  readonly title: string;
  readonly unit: string;
  readonly values: Values;
  /** How many times the native value. */
  readonly ratios: Values;
  readonly goal: JudgedGoal | undefined;
  readonly rounds: Readonly<Record<string, readonly number[]>>;
}

/** Columns that goals are for. */
const OURS = ['tvix-store', 'TCP', 'unix', '20 ms', '10 MB/s'];

/** What a line of the table says, from the figures of all rounds in each column. */
export function summary(
  { name, title, unit, goal }: Line & { name: string },
  figures: Result['rounds'],
): Result {
  const values: Values = Object.fromEntries(
    Object.entries(figures)
      .filter(([, rounds]) => rounds.length > 0)
      .map(([column, rounds]) => [column, median(rounds)]),
  );
  const ratios = Object.fromEntries(
    Object.entries(values)
      .filter(([column]) => column !== 'native' && values.native !== undefined)
      .map(([column, value]) => [column, value / values.native!]),
  );
  return {
    row: name,
    title,
    unit,
    values,
    ratios,
    goal: goal && judged(goal, values, Object.keys(figures)),
    rounds: figures,
  };
}

/** The goal, with what each of our columns reached: a figure, or how many times or how much more the other. */
function judged(goal: Goal, values: Values, columns: readonly string[]): JudgedGoal {
  const reached: Record<string, number> = {};
  for (const column of columns.filter((column) => OURS.includes(column))) {
    // Of `bare`, each of our columns has its own.
    const other = values[goal.of ?? ''] ?? values[`${goal.of} ${column}`] ?? Number.NaN;
    const value = values[column] ?? Number.NaN;
    if (goal.plus !== undefined) reached[column] = value - other;
    else reached[column] = goal.of ? value / other : value;
  }
  const all = Object.values(reached!);
  if (all.every((value) => !(value > -Infinity))) return goal;
  const met = (value: number) =>
    goal.atLeast !== undefined ? value >= goal.atLeast : value <= (goal.plus ?? goal.atMost!);
  return { ...goal, reached, met: all.every(met) };
}

/** A table of the lines, with the columns that have a figure. */
export function table(lines: readonly Result[], allColumns: readonly string[]): string {
  const columns = allColumns.filter((column) => lines.some(({ values }) => values[column] !== undefined));
  const rows: string[][] = [
    ['', 'unit', ...columns, 'goal', ''],
    ...lines.map((line) => [
      line.title,
      line.unit,
      ...columns.map((column) => cell(line, column)),
      ...goalCells(line.goal),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function cell({ values, ratios }: Result, column: string): string {
  const [value, ratio] = [values[column], ratios[column]];
  if (value === undefined) return '-';
  return number(value) + (ratio === undefined ? '' : ` (${number(ratio)})`);
}

function goalCells(goal: JudgedGoal | undefined): [string, string] {
  if (!goal) return ['', ''];
  const { atMost, atLeast, plus, of, reached, met } = goal;
  const shown = (value: number) =>
    value > -Infinity ? (plus !== undefined && value > 0 ? '+' : '') + number(value) : '-';
  const verdict =
    met === undefined
      ? 'not measured'
      : `${met ? 'met' : 'MISSED'}: ${Object.values(reached!).map(shown).join(', ')}`;
  if (plus !== undefined) return [`at most ${of} + ${number(plus)}`, verdict];
  const bound = atMost !== undefined ? `at most ${number(atMost)}` : `at least ${number(atLeast!)}`;
  return [of ? `${bound} of ${of}` : bound, verdict];
}

/** Three digits that matter. */
function number(value: number): string {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
