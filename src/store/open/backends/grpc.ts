import { UsageError } from '../../../util/errors.ts';
import { restrict } from '../../../util/url.ts';
import type { Store } from '../../services.ts';
import type { Kind, Site } from '../kind.ts';
import { ofStore } from '../kind.ts';

/** The services of a peer: a daemon, or another implementation of one. */
export const GRPC: Kind = {
  keys: { url: { is: 'text', required: true } },
  address: (given) => given.text('url'),
  check: ({ hostname }) => {
    if (hostname.includes(','))
      throw new UsageError('for several hosts, name several stores by type "replicas"');
  },
  makes: ofStore(openGrpc),
  isOthers: () => true,
};

async function openGrpc({ url, patience }: Site): Promise<Store> {
  // Loaded when it is needed: a mount of a local store does without.
  const { dial, GRPC_PARAMETERS } = await import('../../../proto/grpc/dial.ts');
  const { GrpcBlobService } = await import('../../../castore/blob/grpc.ts');
  const { GrpcDirectoryService } = await import('../../../castore/directory/grpc.ts');
  const { GrpcPathInfoService } = await import('../../path-info/grpc.ts');
  restrict(url, { host: true, path: true, parameters: GRPC_PARAMETERS });
  const channel = await dial(url, patience);
  return {
    blobs: new GrpcBlobService(channel),
    directories: new GrpcDirectoryService(channel),
    pathInfos: new GrpcPathInfoService(channel),
    far: true,
    close: async () => channel.close(),
  };
}
