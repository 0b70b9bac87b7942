import { tvix } from '../messages.ts';
import { build, google } from '../remote.ts';
import type { Codec } from './codec.ts';
import { blobChunk, codec, encoded, readResponse } from './codec.ts';

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
  /** `remote`: of the Remote Execution API; its services have one name, which is complete. */
  readonly layer: 'castore' | 'store' | 'remote';
  readonly service: string;
  readonly name: string;
}

/** Where a method is reached. */
export function methodPath(
  dialect: Dialect,
  { layer, service, name }: Pick<Method<never, never>, 'layer' | 'service' | 'name'>,
): string {
  if (layer === 'remote') return `/${service}/${name}`;
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

const { v2 } = build.bazel.remote.execution;
type Remote = typeof v2;
const ofRemote = <K extends keyof Remote>(name: K) => codec<Input<Remote[K]>>(v2[name] as never);
const remoteMethod = <Q extends keyof Remote, R extends keyof Remote>(
  service: string,
  name: string,
  request: Q,
  response: R,
) =>
  method('remote', `build.bazel.remote.execution.v2.${service}`, name, ofRemote(request), ofRemote(response));
const ofStorage = <Q extends keyof Remote, R extends keyof Remote>(name: string, request: Q, response: R) =>
  remoteMethod('ContentAddressableStorage', name, request, response);

/** How the Remote Execution API calls BLAKE3, and compressions. */
export const { BLAKE3 } = v2.DigestFunction.Value;
export const COMPRESSOR = v2.Compressor.Value;

export const CAPABILITIES = {
  get: remoteMethod('Capabilities', 'GetCapabilities', 'GetCapabilitiesRequest', 'ServerCapabilities'),
};

export const CAS = {
  findMissing: ofStorage('FindMissingBlobs', 'FindMissingBlobsRequest', 'FindMissingBlobsResponse'),
  batchUpdate: ofStorage('BatchUpdateBlobs', 'BatchUpdateBlobsRequest', 'BatchUpdateBlobsResponse'),
  batchRead: ofStorage('BatchReadBlobs', 'BatchReadBlobsRequest', 'BatchReadBlobsResponse'),
  splice: ofStorage('SpliceBlob', 'SpliceBlobRequest', 'SpliceBlobResponse'),
};
/** A method, whatever it takes and gives. */
export type AnyMethod = Pick<Method<never, unknown>, 'service' | 'name'>;

/** Those that only look up what is there: to be asked twice costs a peer little. */
export const LOOKUPS: ReadonlySet<unknown> = new Set([
  BLOB.stat,
  BLOB.read,
  DIRECTORY.get,
  PATH_INFO.get,
  CAS.batchRead,
]);

/** Whether a call brings contents. */
export function isPut({ name }: AnyMethod): boolean {
  return name === 'Put' || name === CAS.batchUpdate.name;
}

/** Digests that are asked for at once, at the most. */
export const MAX_ASKED = 16 << 10;
/** Bytes of the blobs in one call, at the most: a message of 4 MiB, as others take it, has their names in it as well. */
export const MAX_BATCH = (4 << 20) - (256 << 10);

type Bytes = typeof google.bytestream;
const ofBytes = <K extends keyof Bytes>(name: K) => codec<Input<Bytes[K]>>(google.bytestream[name] as never);
const BYTES = 'google.bytestream.ByteStream';

export const BYTE_STREAM = {
  read: method('remote', BYTES, 'Read', ofBytes('ReadRequest'), readResponse, { response: true }),
  write: method('remote', BYTES, 'Write', ofBytes('WriteRequest'), ofBytes('WriteResponse'), {
    request: true,
  }),
  query: method(
    'remote',
    BYTES,
    'QueryWriteStatus',
    ofBytes('QueryWriteStatusRequest'),
    ofBytes('QueryWriteStatusResponse'),
  ),
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
