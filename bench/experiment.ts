import type { Workspace } from './workspace.ts';

/** At most or at least a figure, or that many times the figure of the column `of`, or so much more than that. */
export interface Goal {
  readonly atMost?: number;
  readonly atLeast?: number;
  readonly plus?: number;
  /** A column, or the first word of one that ends in the name of ours. */
  readonly of?: string;
}

/** A line of the table. */
export interface Line {
  readonly title: string;
  readonly unit: string;
  /** For our own columns. */
  readonly goal?: Goal;
}

/** What a round measured, by line; a line may be left out. */
export type Figures = Readonly<Record<string, number | undefined>>;

/** Measures one or more lines of the table. */
export interface Experiment {
  readonly name: string;
  readonly columns: readonly string[];
  readonly lines: Readonly<Record<string, Line>>;
  /** For what takes long. */
  readonly mostRounds?: number;
  /** Does one round of one column. */
  measure(column: string, workspace: Workspace): Promise<Figures>;
}

export async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1e3;
}
