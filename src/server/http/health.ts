import type { HealthCheck } from '../health.ts';
import { isServing, wordsFor } from '../health.ts';
import type { Route } from './router.ts';

/** Tells everybody how the process is: in words, and by the status whether it serves. */
export function healthRoute(check: HealthCheck): Route {
  return {
    name: 'health',
    path: /^\/health$/,
    isOpen: true,
    get: async (exchange) => {
      const health = await check.now();
      return exchange.reply(isServing(health) ? 200 : 503, 'text/plain', `${wordsFor(health)}\n`);
    },
  };
}
