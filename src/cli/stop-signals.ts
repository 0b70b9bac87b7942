/** Signals that ask a program to end. */
export const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * From now on a signal that would end the process does not: the first one calls `stop`, and every further one `hurry`.
 * Whoever stops a program often signals it twice: `timeout`, a shell, an impatient person.
 */
export function onStopSignals(stop: () => void, hurry: () => void = () => {}): void {
  let isStopping = false;
  const hear = () => {
    const react = isStopping ? hurry : stop;
    isStopping = true;
    react();
  };
  for (const signal of STOP_SIGNALS) process.on(signal, hear);
}
