import type { Socket } from 'node:net';
import { ChannelCredentials } from '@grpc/grpc-js';

type Connecting = Parameters<ChannelCredentials['_createSecureConnector']>;
type Connector = ReturnType<ChannelCredentials['_createSecureConnector']>;

/** Credentials that are asked for at every new connection, whose socket they show. */
export class FreshCredentials extends ChannelCredentials {
  readonly #current: () => ChannelCredentials;
  readonly #onSocket: (socket: Socket) => void;

  constructor(current: () => ChannelCredentials, onSocket: (socket: Socket) => void) {
    super();
    this.#current = current;
    this.#onSocket = onSocket;
  }

  override _isSecure(): boolean {
    return this.#current()._isSecure();
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(...connecting: Connecting): Connector {
    const connector = this.#current()._createSecureConnector(...connecting);
    return {
      connect: async (socket) => {
        this.#onSocket(socket);
        return this.#current()
          ._createSecureConnector(...connecting)
          .connect(socket);
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  }
}
