import { median } from './statistics.mjs';

const OURS = 'tvix-store';

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
  return { row: name, title, unit, values, ratios, goal: goal && judged(goal, values), rounds: figures };
}

function judged(goal, values) {
  const reached = goal.of ? values[OURS] / values[goal.of] : values[OURS];
  if (reached === undefined || Number.isNaN(reached)) return goal;
  return {
    ...goal,
    reached,
    met: goal.atMost !== undefined ? reached <= goal.atMost : reached >= goal.atLeast,
  };
}

export function table(lines, columns) {
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
  const bound =
    goal.atMost !== undefined ? `at most ${number(goal.atMost)}` : `at least ${number(goal.atLeast)}`;
  const verdict =
    goal.met === undefined ? 'not measured' : `${goal.met ? 'met' : 'MISSED'}: ${number(goal.reached)}`;
  return [goal.of ? `${bound} of ${goal.of}` : bound, verdict];
}

/** Three digits that matter. */
function number(value) {
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
