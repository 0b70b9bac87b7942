import type { Method } from '../../proto/grpc/methods.ts';
import type { ClientStream, ServerStream, Unary, Work } from './calls.ts';

/** A method, and the work that answers it under any dialect. */
export interface Implementation {
  readonly method: Method<unknown, unknown>;
  readonly work: Work<unknown, unknown>;
}

export function unary<Q, R>(method: Method<Q, R>, work: Unary<Q, R>): Implementation {
  return { method, work } as unknown as Implementation;
}
export function serverStream<Q, R>(method: Method<Q, R>, work: ServerStream<Q, R>): Implementation {
  return { method, work } as unknown as Implementation;
}
export function clientStream<Q, R>(method: Method<Q, R>, work: ClientStream<Q, R>): Implementation {
  return { method, work } as unknown as Implementation;
}
