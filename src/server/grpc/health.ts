import { addAbortListener } from 'node:events';
import { codec } from '../../proto/grpc/codec.ts';
import { grpc } from '../../proto/standard.ts';
import { StoreError } from '../../util/errors.ts';
import type { ServedMethod } from './calls.ts';
import { served } from './calls.ts';

const { HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse } = grpc.health.v1;
const { ServingStatus } = HealthCheckResponse;

type Request = grpc.health.v1.IHealthCheckRequest;
type Response = grpc.health.v1.IHealthCheckResponse;

/** Says of a server and of each of its services that it serves, until it stops (protos/grpc/health). */
export class Health {
  readonly #stopping = new AbortController();
  readonly #names: ReadonlySet<string>;

  /** `services`: their complete names. */
  constructor(services: Iterable<string>) {
    // The whole server has no name.
    this.#names = new Set(['', ...services]);
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
    yield this.#status(name);
    await aborted(AbortSignal.any([signal, this.#stopping.signal]));
    if (!signal.aborted && this.#names.has(name)) yield this.#status(name);
  }

  #status(name: string): Response {
    if (!this.#names.has(name)) return { status: ServingStatus.SERVICE_UNKNOWN };
    return { status: this.#stopping.signal.aborted ? ServingStatus.NOT_SERVING : ServingStatus.SERVING };
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => addAbortListener(signal, () => resolve()));
}
