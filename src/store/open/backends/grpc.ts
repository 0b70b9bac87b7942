import type { Store } from '../../services.ts';
import { restrict } from './backend.ts';

/** `grpc+http://host:port`, `grpc+https://…` and `grpc+unix:///socket`: the services of a peer. */
export async function openGrpc(url: URL): Promise<Store> {
  // Loaded when it is needed: a mount of a local store does without.
  const { dial, GRPC_PARAMETERS } = await import('../../../proto/grpc/dial.ts');
  const { GrpcBlobService } = await import('../../../castore/blob/grpc.ts');
  const { GrpcDirectoryService } = await import('../../../castore/directory/grpc.ts');
  const { GrpcPathInfoService } = await import('../../path-info/grpc.ts');
  restrict(url, { host: true, path: true, parameters: GRPC_PARAMETERS });
  const channel = await dial(url);
  return {
    blobs: new GrpcBlobService(channel),
    directories: new GrpcDirectoryService(channel),
    pathInfos: new GrpcPathInfoService(channel),
    far: true,
    close: async () => channel.close(),
  };
}
