import { median } from './statistics.mjs';

/** Columns that goals are for. */
const OURS = ['tvix-store', 'TCP', 'unix', '20 ms'];

/** What a line of the table says, from the figures of all rounds in each column. */
export function summary({ name, title, unit, goal }, figures) {
  const values = Object.fromEntries(
    Object.entries(figures)
      .filter(([, rounds]) => rounds.length > 0)
      .map(([column, rounds]) => [column, median(rounds)]),
  );
  const ratios = Object.fromEntries(
    Object.entries(values)
      .filter(([column]) => column !== 'native' && values.native !== undefined)
      .map(([column, value]) => [column, value / values.native]),
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
function judged(goal, values, columns) {
  const reached = {};
  for (const column of columns.filter((column) => OURS.includes(column))) {
    // Of `bare`, each of our columns has its own.
    const other = values[goal.of] ?? values[`${goal.of} ${column}`];
    if (goal.plus !== undefined) reached[column] = values[column] - other;
    else reached[column] = goal.of ? values[column] / other : values[column];
  }
  const all = Object.values(reached);
  if (all.every((value) => !(value > -Infinity))) return goal;
  const met = (value) =>
    goal.atLeast !== undefined ? value >= goal.atLeast : value <= (goal.plus ?? goal.atMost);
  return { ...goal, reached, met: all.every(met) };
}

/** A table of the lines, with the columns that have a figure. */
export function table(lines, allColumns) {
  const columns = allColumns.filter((column) => lines.some(({ values }) => values[column] !== undefined));
  const rows = [
    ['', 'unit', ...columns, 'goal', ''],
    ...lines.map((line) => [
      line.title,
      line.unit,
      ...columns.map((column) => cell(line, column)),
      ...goalCells(line.goal),
    ]),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows
    .map((row) =>
      row
        .map((text, column) => text.padEnd(widths[column]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function cell({ values, ratios }, column) {
  if (values[column] === undefined) return '-';
  const ratio = ratios[column] === undefined ? '' : ` (${number(ratios[column])})`;
  return number(values[column]) + ratio;
}

function goalCells(goal) {
  if (!goal) return ['', ''];
  const { atMost, atLeast, plus, of, reached, met } = goal;
  const shown = (value) =>
    value > -Infinity ? (plus !== undefined && value > 0 ? '+' : '') + number(value) : '-';
  const verdict =
    met === undefined
      ? 'not measured'
      : `${met ? 'met' : 'MISSED'}: ${Object.values(reached).map(shown).join(', ')}`;
  if (plus !== undefined) return [`at most ${of} + ${number(plus)}`, verdict];
  const bound = atMost !== undefined ? `at most ${number(atMost)}` : `at least ${number(atLeast)}`;
  return [of ? `${bound} of ${of}` : bound, verdict];
}

/** Three digits that matter. */
function number(value) {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
