import { close, url } from 'node:inspector';

/**
 * Closes Node's debugger if SIGUSR1 has opened it, before a program could say that it listens to that signal. Who asked
 * for it by a flag keeps it.
 */
export function closeUnaskedDebugger(): void {
  const flags = [...process.execArgv, process.env.NODE_OPTIONS ?? ''];
  if (url() !== undefined && !flags.some((flag) => flag.includes('--inspect'))) close();
}
