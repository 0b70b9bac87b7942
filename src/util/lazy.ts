import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/**
 * A package that is loaded when it is first asked for: a command that does without it starts sooner. Not for one whose
 * loader asks Node for a report (`process.report`), as those of native packages do that look for the C library: a report
 * waits for all threads, and one that serves the kernel may be asleep.
 */
export function lazyPackage<T>(name: string): () => T {
  let loaded: T | undefined;
  return () => {
    loaded ??= require(name) as T;
    return loaded;
  };
}
