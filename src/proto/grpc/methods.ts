import { tvix } from '../messages.ts';
import type { Codec } from './codec.ts';
import { blobChunk, codec, encoded } from './codec.ts';

/** The package names under which the same services are spoken: tvix first, then snix. */
export const DIALECTS = ['tvix', 'snix'] as const;
export type Dialect = (typeof DIALECTS)[number];

/** The messages of a method: one kind each way, a single one or a stream. */
export interface MethodShape<Request, Response> {
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly request: Codec<Request>;
  readonly response: Codec<Response>;
}

/** A method of a service, apart from the dialect. */
export interface Method<Request, Response> extends MethodShape<Request, Response> {
  readonly layer: 'castore' | 'store';
  readonly service: string;
  readonly name: string;
}

/** Where a method is reached. */
export function methodPath(
  dialect: Dialect,
  { layer, service, name }: Pick<Method<never, never>, 'layer' | 'service' | 'name'>,
): string {
  return `/${dialect}.${layer}.v1.${service}/${name}`;
}

const { castore, store } = tvix;

type Castore = typeof tvix.castore.v1;
type Store = typeof tvix.store.v1;
type Input<T> = T extends { encode(message: infer M, ...rest: never[]): unknown } ? M : never;

const of = <K extends keyof Castore>(name: K) => codec<Input<Castore[K]>>(castore.v1[name] as never);
const ofStore = <K extends keyof Store>(name: K) => codec<Input<Store[K]>>(store.v1[name] as never);

function method<Request, Response>(
  layer: Method<Request, Response>['layer'],
  service: string,
  name: string,
  request: Codec<Request>,
  response: Codec<Response>,
  streams: { request?: boolean; response?: boolean } = {},
): Method<Request, Response> {
  const requestStream = streams.request ?? false;
  return {
    layer,
    service,
    name,
    request,
    response,
    requestStream,
    responseStream: streams.response ?? false,
  };
}

export const BLOB = {
  stat: method('castore', 'BlobService', 'Stat', of('StatBlobRequest'), of('StatBlobResponse')),
  read: method('castore', 'BlobService', 'Read', of('ReadBlobRequest'), blobChunk, { response: true }),
  put: method('castore', 'BlobService', 'Put', blobChunk, of('PutBlobResponse'), { request: true }),
};

export const DIRECTORY = {
  get: method('castore', 'DirectoryService', 'Get', of('GetDirectoryRequest'), encoded, { response: true }),
  put: method('castore', 'DirectoryService', 'Put', encoded, of('PutDirectoryResponse'), { request: true }),
};

export const PATH_INFO = {
  get: method('store', 'PathInfoService', 'Get', ofStore('GetPathInfoRequest'), ofStore('PathInfo')),
  put: method('store', 'PathInfoService', 'Put', ofStore('PathInfo'), ofStore('PathInfo')),
  calculateNar: method(
    'store',
    'PathInfoService',
    'CalculateNAR',
    of('Node'),
    ofStore('CalculateNARResponse'),
  ),
  list: method('store', 'PathInfoService', 'List', ofStore('ListPathInfoRequest'), ofStore('PathInfo'), {
    response: true,
  }),
};

/** Bytes of a message that either side takes. A Directory is one message, however many entries it has. */
export const MAX_MESSAGE_LENGTH = 64 << 20;
/** Bytes of a blob that go into one message. */
export const BLOB_MESSAGE_LENGTH = 512 * 1024;
/** Options of channels and servers alike. The window decides the throughput between two processes. */
export const TRANSPORT_OPTIONS = {
  'grpc-node.flow_control_window': 8 << 20,
  'grpc.max_receive_message_length': MAX_MESSAGE_LENGTH,
  'grpc.max_send_message_length': MAX_MESSAGE_LENGTH,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 20_000,
  // Statistics of every call, which nobody asks for.
  'grpc.enable_channelz': 0,
};
