import type { ServiceName } from '../services.ts';
import { GRPC } from './backends/grpc.ts';
import { CACHE, COMBINED } from './backends/layered.ts';
import { LOCAL } from './backends/local.ts';
import { LRU } from './backends/lru.ts';
import { MEMORY } from './backends/memory.ts';
import { MIRRORED } from './backends/mirrored.ts';
import { NIX } from './backends/nix.ts';
import { NIX_STORE } from './backends/nix-store.ts';
import { OBJECT_STORE } from './backends/objectstore.ts';
import { REPLICAS } from './backends/replicas.ts';
import { KEYFILE_SIGNING } from './backends/signing.ts';
import type { Kind } from './kind.ts';

/** Every kind of store, by its name in a composition; `SCHEMES` says how it is named in an address. */
export const KINDS: Readonly<Record<string, Kind>> = {
  memory: MEMORY,
  local: LOCAL,
  grpc: GRPC,
  objectstore: OBJECT_STORE,
  cache: CACHE,
  combined: COMBINED,
  replicas: REPLICAS,
  mirrored: MIRRORED,
  lru: LRU,
  nix: NIX,
  'nix-store': NIX_STORE,
  'keyfile-signing': KEYFILE_SIGNING,
};

/** The names of the kinds that make a service. */
export function kindsOf(service: ServiceName): string[] {
  return Object.keys(KINDS).filter((name) => KINDS[name]!.makes[service]);
}
