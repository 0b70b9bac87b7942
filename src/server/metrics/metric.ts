import type { Distribution } from '../../util/metrics/distribution.ts';

/** A value for each combination of labels; `''` stands for the only one where there are none, and else a TAB between them. */
type Values<V> = ReadonlyMap<string, V>;

/** A metric, which is read when somebody asks for it. */
export type Metric = {
  readonly name: string;
  readonly help: string;
  /** Names of the labels. What they may say is of few kinds, whatever a peer asks for. */
  readonly labels: readonly string[];
} & (
  | { readonly type: 'counter' | 'gauge'; readonly read: () => Values<number> }
  | { readonly type: 'histogram'; readonly read: () => Values<Distribution> }
);

/** A number, or one for each kind. What is not known now is left out. */
type Read = () => number | undefined | Values<number>;

function numbers(read: Read): () => Values<number> {
  return () => {
    const value = read();
    if (value === undefined) return new Map();
    return typeof value === 'number' ? new Map([['', value]]) : value;
  };
}

export function counter(name: string, help: string, read: Read, ...labels: string[]): Metric {
  return { type: 'counter', name, help, labels, read: numbers(read) };
}

export function gauge(name: string, help: string, read: Read, ...labels: string[]): Metric {
  return { type: 'gauge', name, help, labels, read: numbers(read) };
}

export function histogram(
  name: string,
  help: string,
  read: () => Values<Distribution>,
  ...labels: string[]
): Metric {
  return { type: 'histogram', name, help, labels, read };
}
