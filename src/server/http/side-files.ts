import type { PathSource } from '../../store/services.ts';
import type { SideFileName } from '../../store/side-files/name.ts';
import { parseSideFileName } from '../../store/side-files/name.ts';
import type { SideFiles } from '../../store/side-files/side-files.ts';
import { log } from '../../util/log.ts';
import { accepts, decodedBody, zstdEncoded } from './encoding.ts';
import type { Exchange } from './exchange.ts';
import { HttpProblem } from './problem.ts';
import type { Route } from './router.ts';

/**
 * The route of logs, realisations and debug information. What is not here comes from where store paths come from; clients
 * check whom they believe what it says.
 */
export function sideFileRoute(files: SideFiles, far: PathSource | undefined): Route {
  return {
    name: 'side-file',
    path: /^\/((?:log|realisations|build-trace-v2|debuginfo)\/.*)$/,
    async get(exchange, text) {
      const name = nameOf(text!);
      const found = name && (await files.get(name, exchange.signal));
      if (name && !found && far?.sideFile && (await handOn(exchange, far, name))) return;
      if (!found) throw new HttpProblem(404, 'this file is not here');
      const headers = { ...typeOf(name), vary: 'accept-encoding' };
      const isWhole = exchange.header('range') === undefined;
      if (isWhole && accepts(exchange.header('accept-encoding'), 'zstd')) {
        const make = () => zstdEncoded(found.read(0, found.size, exchange.signal));
        return exchange.stream(200, { ...headers, 'content-encoding': 'zstd' }, make);
      }
      await exchange.send({ length: found.size, read: found.read }, headers);
    },
    async put(exchange, text) {
      const name = nameOf(text!);
      if (!name)
        throw new HttpProblem(400, `${JSON.stringify(text!.slice(0, 300))} is no name of such a file`);
      await files.put(name, decodedBody(exchange), exchange.signal);
      log.info('taken', { file: name.text });
      exchange.reply(200, 'text/plain', '');
    },
  };
}

/** Answers with a file of a binary cache; false when there is none. Its NARs have other names here than there. */
async function handOn(exchange: Exchange, far: PathSource, name: SideFileName): Promise<boolean> {
  if (name.kind === 'debug-info') return false;
  const done = new AbortController();
  try {
    const found = await far.sideFile?.(name.text, AbortSignal.any([exchange.signal, done.signal]));
    if (found) await exchange.stream(200, typeOf(name), () => found);
    return found !== undefined;
  } finally {
    done.abort();
  }
}

function typeOf({ kind }: SideFileName): { 'content-type': string } {
  return { 'content-type': kind === 'log' ? 'text/plain; charset=utf-8' : 'application/json' };
}

/** Clients write what a URL need not escape either way. */
function nameOf(text: string): SideFileName | undefined {
  try {
    return parseSideFileName(decodeURIComponent(text));
  } catch {
    return undefined;
  }
}
