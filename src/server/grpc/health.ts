import { addAbortListener } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { codec } from '../../proto/grpc/codec.ts';
import { grpc } from '../../proto/standard.ts';
import { peersAway } from '../../util/async/outage.ts';
import { StoreError } from '../../util/errors.ts';
import type { ServedMethod } from './calls.ts';
import { served } from './calls.ts';

const { HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse } = grpc.health.v1;
const { ServingStatus } = HealthCheckResponse;

type Request = grpc.health.v1.IHealthCheckRequest;
type Response = grpc.health.v1.IHealthCheckResponse;

/** Asked for by this name: whether the stores elsewhere are there. The protocol has no word for what only partly serves. */
const FAR_STORE = 'far-store';
/** How often it is looked whether that has changed, in milliseconds. */
const LOOK_MS = 1000;

/**
 * Says of a server and of each of its services that it serves, until it stops (protos/grpc/health); and of the stores that it
 * asks whether they are there.
 */
export class Health {
  readonly #stopping = new AbortController();
  readonly #names: ReadonlySet<string>;

  /** `services`: their complete names. */
  constructor(services: Iterable<string>) {
    // The whole server has no name.
    this.#names = new Set(['', FAR_STORE, ...services]);
  }

  methods(): ServedMethod[] {
    const request = codec<Request>(HealthCheckRequest);
    const response = codec<Response>(HealthCheckResponse);
    const one = { requestStream: false, responseStream: false };
    return [
      served({
        path: '/grpc.health.v1.Health/Check',
        shape: { request, response, ...one },
        work: (request: Request) => this.#check(request),
      }),
      served({
        path: '/grpc.health.v1.Health/List',
        shape: { request: codec(HealthListRequest), response: codec(HealthListResponse), ...one },
        work: () => this.#list(),
      }),
      served({
        path: '/grpc.health.v1.Health/Watch',
        shape: { request, response, requestStream: false, responseStream: true },
        work: (request: Request, signal: AbortSignal) => this.#watch(request, signal),
      }),
    ];
  }

  /** From now on nothing serves; whoever watches is told, and their calls end. */
  stop(): void {
    this.#stopping.abort();
  }

  async #check({ service }: Request): Promise<Response> {
    const name = service ?? '';
    if (!this.#names.has(name)) throw new StoreError('NOT_FOUND', `no service ${name} here`);
    return this.#status(name);
  }

  async #list() {
    return { statuses: Object.fromEntries(Array.from(this.#names, (name) => [name, this.#status(name)])) };
  }

  async *#watch({ service }: Request, signal: AbortSignal): AsyncGenerator<Response> {
    const name = service ?? '';
    const ended = AbortSignal.any([signal, this.#stopping.signal]);
    for (let told: Response['status']; ; ) {
      const response = this.#status(name);
      if (response.status !== told) yield response;
      told = response.status;
      if (ended.aborted) return;
      // Nothing else changes before the end.
      if (name === FAR_STORE) await delay(LOOK_MS, undefined, { signal: ended, ref: false }).catch(() => {});
      else await aborted(ended);
    }
  }

  #status(name: string): Response {
    if (!this.#names.has(name)) return { status: ServingStatus.SERVICE_UNKNOWN };
    const isServing = !this.#stopping.signal.aborted && (name !== FAR_STORE || peersAway().length === 0);
    return { status: isServing ? ServingStatus.SERVING : ServingStatus.NOT_SERVING };
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => addAbortListener(signal, () => resolve()));
}
