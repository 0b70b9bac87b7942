import type { Route } from '../http/router.ts';
import type { Exposition } from './exposition.ts';

/** Tells metrics to Prometheus. `isOpen`: also where reading the store is restricted. */
export function metricsRoute(exposition: () => Promise<Exposition>, isOpen = false): Route {
  return {
    name: 'metrics',
    path: /^\/metrics$/,
    isOpen,
    get: async (exchange) => {
      const told = await exposition();
      return exchange.reply(200, told.contentType, await told.text());
    },
  };
}
