import type { ChannelCredentials, ClientDuplexStream, StatusObject } from '@grpc/grpc-js';
import { Client, credentials, status } from '@grpc/grpc-js';

const asIs = (bytes: Buffer) => bytes;
const MAX_MESSAGE_LENGTH = 256 << 20;

export interface Answer {
  /** Name of the status, as in INVALID_ARGUMENT. */
  readonly code: string;
  readonly details: string;
  readonly messages: Buffer[];
}

/**
 * A client that sends and receives bytes, whatever they mean. On the wire every kind of method is a stream
 * each way, so one kind of call does for all.
 */
export class RawClient {
  readonly #client: Client;

  /** `target` as grpc-js takes it: `127.0.0.1:8000`, `unix:/path`. */
  constructor(target: string, channelCredentials: ChannelCredentials = credentials.createInsecure()) {
    this.#client = new Client(target, channelCredentials, {
      'grpc.max_send_message_length': MAX_MESSAGE_LENGTH,
      'grpc.max_receive_message_length': MAX_MESSAGE_LENGTH,
      // Clients of a test are different ones.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  /** A call whose messages are sent, and taken, by whoever calls. Its errors stay silent. */
  open(path: string): ClientDuplexStream<Buffer, Buffer> {
    const call = this.#client.makeBidiStreamRequest(path, asIs, asIs);
    call.on('error', () => {});
    return call;
  }

  /** Sends messages and takes the whole answer. */
  async call(path: string, ...requests: Uint8Array[]): Promise<Answer> {
    const call = this.open(path);
    const messages: Buffer[] = [];
    call.on('data', (message: Buffer) => messages.push(message));
    const ended = answered(call);
    for (const request of requests) {
      if (call.destroyed) break;
      call.write(Buffer.from(request));
    }
    call.end();
    return { ...(await ended), messages };
  }

  close(): void {
    this.#client.close();
  }
}

/** Resolves with the status of a call. */
export function answered(call: ClientDuplexStream<Buffer, Buffer>): Promise<Omit<Answer, 'messages'>> {
  return new Promise((resolve) => {
    call.once('status', ({ code, details }: StatusObject) => resolve({ code: status[code], details }));
  });
}
