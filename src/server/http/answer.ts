import { StoreError } from '../../util/errors.ts';
import { log } from '../../util/log.ts';
import { isFromPage } from '../access/forwarded.ts';
import type { AccessRule } from '../access/rule.ts';
import type { Exchange } from './exchange.ts';
import { problemOf } from './problem.ts';
import type { Route } from './router.ts';
import { findRoute } from './router.ts';

/**
 * Answers requests by routes, for those who may ask. `begin` hears of each, and gives what hears which route has answered
 * it.
 */
export function answeringBy(
  routes: readonly Route[],
  access: AccessRule,
  begin: (exchange: Exchange) => (route: string) => void,
): (exchange: Exchange) => Promise<void> {
  return async (exchange) => {
    const done = begin(exchange);
    let name = 'none';
    try {
      const route = findRoute(routes, exchange);
      name = route.name;
      permit(access, route, exchange);
      await route.run(exchange);
    } catch (error) {
      if (!exchange.signal.aborted) exchange.fail(problemOf(error));
    } finally {
      done(name);
      log.debug('answered', { method: exchange.method, path: exchange.path, status: exchange.status });
    }
  };
}

/** Throws when who asks may not. What they may is in the exchange from then on. */
function permit(access: AccessRule, { isOpen }: { isOpen: boolean }, exchange: Exchange): void {
  if (isOpen) return;
  const isUpload = exchange.method === 'PUT';
  // No page is one's own that has a token, or comes over a socket; and any page can have a browser on this machine ask.
  if (isUpload && isFromPage((name) => exchange.header(name) !== undefined))
    throw new StoreError('PERMISSION_DENIED', 'uploads are not taken from web pages');
  exchange.grant = access.check(exchange.caller, isUpload ? 'write' : 'read');
}
