import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect } from 'node:net';
import { afterAll } from 'vitest';

const opened: { close(): void }[] = [];

afterAll(() => {
  for (const server of opened) server.close();
});

/** A proxy for HTTP, as companies have them between their machines and the world. */
export class WebProxy {
  readonly url: string;
  /** Hosts and ports that it was asked to reach, and for what: as it is, or through a tunnel. */
  readonly asked: string[];

  private constructor(url: string, asked: string[]) {
    this.url = url;
    this.asked = asked;
  }

  static async start(): Promise<WebProxy> {
    const asked: string[] = [];
    const server = createServer((incoming, answer) => {
      const { host, hostname, port, pathname, search } = new URL(incoming.url!);
      asked.push(`as it is ${host}`);
      const options = {
        hostname,
        port,
        path: pathname + search,
        method: incoming.method,
        headers: incoming.headers,
      };
      const outgoing = request(options, (theirs) => {
        answer.writeHead(theirs.statusCode!, theirs.headers);
        theirs.pipe(answer);
      });
      outgoing.on('error', () => answer.destroy());
      incoming.pipe(outgoing);
    });
    server.on('connect', (incoming, client) => {
      asked.push(`tunnel ${incoming.url}`);
      const [, host, port] = /^(.*):(\d+)$/.exec(incoming.url!)!;
      const target = connect(Number(port), host, () => {
        client.write('HTTP/1.1 200 OK\r\n\r\n');
        target.pipe(client).pipe(target);
      });
      target.on('error', () => client.destroy());
      client.on('error', () => target.destroy());
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    opened.push(server);
    return new WebProxy(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked);
  }
}
