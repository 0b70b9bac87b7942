import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { SecretKey } from '../../src/nix/key.ts';
import type { TestDaemon } from './daemon.ts';
import { startDaemon } from './daemon.ts';
import { TcpProxy } from './proxy.ts';

/** A store as it may be nested in others. */
export type Shape =
  | { readonly kind: 'local' | 'objects' }
  | { readonly kind: 'daemon'; readonly over: Shape; readonly isSlow: boolean }
  | { readonly kind: 'signing'; readonly inner: Shape }
  | { readonly kind: 'cache' | 'combined'; readonly near: Shape; readonly far: Shape };

/** Any nesting, of which most are shallow. */
export const anyShape: fc.Arbitrary<Shape> = fc.letrec<{ shape: Shape }>((tie) => ({
  shape: fc.oneof(
    { maxDepth: 3, depthSize: 'small' },
    { weight: 2, arbitrary: fc.constantFrom<Shape>({ kind: 'local' }, { kind: 'objects' }) },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constantFrom('cache' as const, 'combined' as const),
        near: tie('shape'),
        far: tie('shape'),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('daemon' as const),
        over: tie('shape'),
        isSlow: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('signing' as const), inner: tie('shape') }) },
  ),
})).shape;

/** A store at the end of a nesting. */
export interface Leaf {
  readonly kind: 'local' | 'objects';
  readonly dir: string;
  /** Whether all that it has may be lost, as it only keeps copies. */
  readonly isCache: boolean;
  /** Whether it is behind a daemon. */
  readonly isServed: boolean;
}

interface Running {
  readonly daemon: TestDaemon;
  proxy?: TcpProxy;
}

/** A shape with its places on disk and its daemons. */
export class Composition {
  readonly leaves: Leaf[] = [];
  readonly #dir: string;
  readonly #shape: Shape;
  readonly #remembers: boolean;
  readonly #key: string;
  readonly #daemons: Running[] = [];
  #cacheDirs = 0;
  address = '';
  /** Where path infos are, by an address of their own where those that were used last are remembered. */
  pathInfos = '';

  constructor(dir: string, shape: Shape, remembers: boolean) {
    this.#remembers = remembers;
    this.#dir = dir;
    this.#shape = shape;
    this.#key = join(dir, 'key');
    writeFileSync(this.#key, SecretKey.generate('composed-1').secret(), { mode: 0o600 });
    this.#collect(shape, { isCache: false, isServed: false });
  }

  #collect(shape: Shape, about: Pick<Leaf, 'isCache' | 'isServed'>): void {
    switch (shape.kind) {
      case 'local':
      case 'objects':
        this.leaves.push({ kind: shape.kind, dir: join(this.#dir, `leaf-${this.leaves.length}`), ...about });
        break;
      case 'signing':
        this.#collect(shape.inner, about);
        break;
      case 'daemon':
        this.#collect(shape.over, { ...about, isServed: true });
        break;
      default:
        this.#collect(shape.near, { ...about, isCache: about.isCache || shape.kind === 'cache' });
        this.#collect(shape.far, about);
    }
  }

  /** Starts the daemons, those that others are built of first. */
  async start(): Promise<void> {
    this.address = await this.#open(this.#shape, this.leaves.values());
    this.pathInfos =
      this.#remembers && !putsNear(this.#shape)
        ? `cache://?near=${encodeURIComponent('lru://?capacity=2')}&far=${encodeURIComponent(this.address)}`
        : this.address;
  }

  /** Gives the address of a shape, made of the next leaves. */
  async #open(shape: Shape, leaves: Iterator<Leaf>): Promise<string> {
    switch (shape.kind) {
      case 'local':
      case 'objects':
        return addressOf(leaves.next().value!);
      case 'signing': {
        const inner = encodeURIComponent(await this.#open(shape.inner, leaves));
        return `keyfile-signing://?inner=${inner}&keyfile=${this.#key}`;
      }
      case 'daemon': {
        const over = await this.#open(shape.over, leaves);
        // Its cache is its own, wherever that lies.
        const env = { ...process.env, TVIX_STORE_CACHE: this.newCacheDir() };
        const daemon = await startDaemon(over, '127.0.0.1:0', [], { env });
        const running: Running = { daemon };
        this.#daemons.push(running);
        if (!shape.isSlow) return daemon.url;
        running.proxy = await TcpProxy.start(daemon.port);
        running.proxy.roundTrip = 4;
        return running.proxy.url;
      }
      default: {
        const near = encodeURIComponent(await this.#open(shape.near, leaves));
        const far = encodeURIComponent(await this.#open(shape.far, leaves));
        return `${shape.kind}://?near=${near}&far=${far}`;
      }
    }
  }

  /** For what this machine keeps of others'; nothing is in it. */
  newCacheDir(): string {
    return join(this.#dir, `cache-${this.#cacheDirs++}`);
  }

  async stop(): Promise<void> {
    for (const { daemon, proxy } of this.#daemons.splice(0).reverse()) {
      proxy?.close();
      await daemon.stop();
    }
  }

  /** Stops it, and takes away all that only keeps copies. */
  async emptyCaches(): Promise<void> {
    await this.stop();
    for (const { dir, isCache } of this.leaves) if (isCache) rmSync(dir, { recursive: true, force: true });
  }
}

export function addressOf({ kind, dir }: Pick<Leaf, 'kind' | 'dir'>): string {
  return kind === 'local' ? `local://${dir}` : `objectstore+file://${dir}`;
}

/** Whether contents are put near: then path infos cannot be put far. */
function putsNear(shape: Shape): boolean {
  return shape.kind === 'combined' || (shape.kind === 'signing' && putsNear(shape.inner));
}
