import { STORE_PATH_HASH_LENGTH } from '../../nix/store-path.ts';
import type { Channel } from '../../proto/grpc/channel.ts';
import { foundOrNot } from '../../proto/grpc/found.ts';
import { PATH_INFO } from '../../proto/grpc/methods.ts';
import type { tvix } from '../../proto/messages.ts';
import { asBuffer } from '../../util/bytes.ts';
import { damaged } from '../../util/errors.ts';
import { pathInfoFromMessage, pathInfoToMessage } from './message.ts';
import type { PathInfo } from './path-info.ts';
import type { PathInfoService } from './service.ts';

/** Path infos of a peer. */
export class GrpcPathInfoService implements PathInfoService {
  readonly checksContents = true;
  readonly #channel: Channel;

  constructor(channel: Channel) {
    this.#channel = channel;
    channel.detect(PATH_INFO.get.service, (dialect) =>
      channel.unaryAs(dialect, PATH_INFO.get, { byOutputHash: new Uint8Array(STORE_PATH_HASH_LENGTH) }),
    );
  }

  async get(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    const message = await foundOrNot(this.#channel.unary(PATH_INFO.get, { byOutputHash: hash }, signal));
    return message && this.#readFor(hash, message);
  }

  #readFor(hash: Uint8Array, message: tvix.store.v1.IPathInfo): PathInfo {
    const info = this.#read(message);
    if (!asBuffer(info.storePath.hash).equals(hash)) {
      throw damaged(`${this.#channel.address} sent the path info of ${info.storePath} instead`);
    }
    return info;
  }

  describe(hash: Uint8Array, signal?: AbortSignal): Promise<PathInfo | undefined> {
    return this.get(hash, signal);
  }

  async put(info: PathInfo, signal?: AbortSignal): Promise<PathInfo> {
    const message = pathInfoToMessage(info);
    return this.#readFor(info.storePath.hash, await this.#channel.unary(PATH_INFO.put, message, signal));
  }

  async *list(signal?: AbortSignal): AsyncGenerator<PathInfo> {
    for await (const message of this.#channel.serverStream(PATH_INFO.list, {}, signal))
      yield this.#read(message);
  }

  #read(message: tvix.store.v1.IPathInfo): PathInfo {
    try {
      return pathInfoFromMessage(message);
    } catch (error) {
      throw damaged(`${this.#channel.address} sent an invalid path info`, { cause: error });
    }
  }
}
