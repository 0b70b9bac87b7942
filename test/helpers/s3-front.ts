import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { afterAll } from 'vitest';

/** An answer in place of the server's. */
export interface Refusal {
  readonly status: number;
  /** Its code, as S3 names it; `undefined` for an answer without one. */
  readonly code?: string;
}

export interface Rules {
  /** What a request is refused with before the server hears of it. */
  before?: (asked: IncomingMessage) => Refusal | undefined;
  /** What takes the place of the server's answer. */
  after?: (asked: IncomingMessage, status: number) => Refusal | undefined;
}

const opened: { close(): void }[] = [];

afterAll(() => {
  for (const server of opened) server.close();
});

/** Stands before an S3 server and answers some requests in its place. Gives its endpoint. */
export async function s3Front(endpoint: string, rules: Rules): Promise<string> {
  const { hostname, port } = new URL(endpoint);
  const server = createServer(async (asked, answer) => {
    const body = await buffer(asked);
    const refusal = rules.before?.(asked);
    if (refusal) return refuse(asked, answer, refusal);
    const { method, url: path, headers } = asked;
    // The host is a part of what was signed.
    const passed = request({ hostname, port, method, path, headers }, async (found) => {
      const contents = await buffer(found);
      const other = rules.after?.(asked, found.statusCode!);
      if (other) return refuse(asked, answer, other);
      answer.writeHead(found.statusCode!, found.headers).end(contents);
    });
    passed.on('error', () => answer.destroy());
    passed.end(body);
  });
  opened.push({
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function refuse({ method }: IncomingMessage, answer: ServerResponse, { status, code }: Refusal): void {
  answer.writeHead(status, { 'content-type': 'application/xml' });
  const text = code === undefined ? '' : `<Error><Code>${code}</Code><Message>${code}</Message></Error>`;
  answer.end(method === 'HEAD' ? '' : text);
}
