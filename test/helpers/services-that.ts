import { StoreError } from '../../src/util/errors.ts';

type Methods = Record<string, (...args: unknown[]) => unknown>;

/** A service that does what another does, save for some methods. */
export function except<T extends object>(service: T, methods: Partial<T>): T {
  return new Proxy(service, {
    get(target, name) {
      const own = (methods as Methods)[name as string];
      if (own) return own;
      const method = (target as Methods)[name as string];
      return typeof method === 'function' ? method.bind(target) : method;
    },
    has: (target, name) => name in methods || name in target,
  });
}

/** A service, and how often each of its methods was called. */
export function counted<T extends object>(service: T): { service: T; calls: Record<string, number> } {
  const calls: Record<string, number> = {};
  const counting = new Proxy(service, {
    get(target, name) {
      const method = (target as Methods)[name as string];
      if (typeof method !== 'function') return method;
      return (...args: unknown[]) => {
        calls[name as string] = (calls[name as string] ?? 0) + 1;
        return method.apply(target, args);
      };
    },
  });
  return { service: counting, calls };
}

/** A service of which these methods fail; without any, all do. */
export function failing<T extends object>(service: T, ...methods: (keyof T)[]): T {
  const fail = () => Promise.reject(new StoreError('NO_SPACE', 'it is full, or broken'));
  return new Proxy(service, {
    get(target, name) {
      const method = (target as Methods)[name as string];
      if (typeof method !== 'function') return method;
      return methods.length === 0 || methods.includes(name as keyof T) ? fail : method.bind(target);
    },
  });
}
