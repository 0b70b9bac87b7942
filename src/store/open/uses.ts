import type { Use } from '../services.ts';
import type { Description } from './description.ts';
import { keyOf } from './description.ts';

/** Where what is described is: equal for what is at one place, and for nothing else. */
export function placeOf(description: Description): unknown {
  const { typeName, kind, url } = description;
  return url && !kind.isUnique?.(url) ? `${typeName} ${url.href}` : description;
}

/**
 * Finds the use that each place is opened for in a store that is opened for `use`. A part that only keeps copies is
 * filled; one that anybody writes to is a store. Whoever writes for others does so in every part.
 */
export function usesOf(roots: Iterable<Description>, use: Use): (description: Description) => Use {
  const uses = new Map<unknown, Set<Use>>();
  const seen = new Map<Description, Set<Use>>();
  const visit = (description: Description, as: Use) => {
    if (!addTo(seen, description, as)) return;
    addTo(uses, placeOf(description), as);
    for (const [key, part] of description.parts) visit(part, keyOf(description, key)?.use ?? as);
  };
  for (const root of roots) visit(root, use);
  return (description) => {
    const [first, second] = uses.get(placeOf(description)) ?? [];
    const found = second === undefined ? first! : 'write';
    return found === 'write' && use === 'serve' ? use : found;
  };
}

/** False when the value is there already. */
function addTo<K, V>(sets: Map<K, Set<V>>, key: K, value: V): boolean {
  const set = sets.get(key) ?? new Set();
  if (set.has(value)) return false;
  sets.set(key, set.add(value));
  return true;
}
