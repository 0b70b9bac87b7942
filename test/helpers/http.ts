import type { Agent, IncomingHttpHeaders, RequestOptions } from 'node:http';
import { request } from 'node:http';
import { connect } from 'node:net';
import { buffer, text } from 'node:stream/consumers';

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface HttpOptions {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: Uint8Array | string;
  readonly agent?: Agent;
  /** A unix socket in place of the port. */
  readonly socketPath?: string;
  readonly host?: string;
}

/** A request to a server on this machine, and all of its answer. Rejects when that is cut short. */
export function http(port: number, path: string, options: HttpOptions = {}): Promise<HttpAnswer> {
  const { body, ...rest } = options;
  return new Promise((resolve, reject) => {
    const to: RequestOptions = { host: '127.0.0.1', port, path, ...rest };
    const asked = request(to, (response) => {
      buffer(response).then(
        (bytes) => resolve({ status: response.statusCode!, headers: response.headers, body: bytes }),
        reject,
      );
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** Sends bytes over a connection of their own, and gives whatever comes back until it is closed. */
export async function raw(port: number, ...parts: (string | Uint8Array)[]): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  // What matters is what came before.
  socket.on('error', () => {});
  for (const part of parts) socket.write(part);
  return text(socket).catch(() => '');
}
