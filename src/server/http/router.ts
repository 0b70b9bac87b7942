import type { Exchange } from './exchange.ts';
import { HttpProblem } from './problem.ts';

/** Answers a request. `names` are the parts of the path that the route's pattern captures. */
export type Handler = (exchange: Exchange, ...names: string[]) => Promise<void> | void;

export interface Route {
  /** Stands for it in the metrics. */
  readonly name: string;
  readonly path: RegExp;
  /** Whether everybody may ask, also where reading is restricted. */
  readonly isOpen?: boolean;
  /** Answers HEAD, too: nothing is sent that stands behind the headers. */
  readonly get?: Handler;
  readonly put?: Handler;
}

/** Finds what answers a request. Throws an `HttpProblem` when nothing does. */
export function findRoute(
  routes: readonly Route[],
  { method, path }: Exchange,
): { name: string; isOpen: boolean; run: Handler } {
  for (const { name, path: pattern, isOpen = false, get, put } of routes) {
    const match = pattern.exec(path);
    if (!match) continue;
    const handler = method === 'PUT' ? put : method === 'GET' || method === 'HEAD' ? get : undefined;
    if (!handler) {
      const allow = [get && 'GET, HEAD', put && 'PUT'].filter(Boolean).join(', ');
      throw new HttpProblem(405, `${method} is not for ${path}; try ${allow}`, { allow });
    }
    return { name, isOpen, run: (exchange) => handler(exchange, ...match.slice(1)) };
  }
  throw new HttpProblem(404, 'there is nothing here');
}
