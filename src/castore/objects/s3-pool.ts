import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import type { Socket } from 'node:net';
import { pipeline, Readable, Transform } from 'node:stream';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import type { Pool } from '../../util/async/pools.ts';
import { damaged } from '../../util/errors.ts';

/** Connections, and requests under way, at once. */
export const MAX_SOCKETS = 64;
const CONNECT_MS = 10_000;
/** A request fails when nothing moved for so long, in milliseconds: while it works on one, S3 gives no sign of life. */
const IDLE_MS = 120_000;

export type Sdk = typeof import('@aws-sdk/client-s3');

type DeserializeMiddleware = Extract<
  Parameters<S3Client['middlewareStack']['add']>[0],
  (next: never, context: never) => unknown
>;

/** Connections to a bucket. */
export class S3Pool implements Pool {
  readonly client: S3Client;
  readonly #agents: readonly Agent[];

  /** `ca` is an authority (PEM) that alone is trusted. */
  constructor(sdk: Sdk, config: S3ClientConfig, ca?: Buffer) {
    // Proxies as the environment names them (Node 22.21 and later).
    const options = { keepAlive: true, maxSockets: MAX_SOCKETS, proxyEnv: process.env };
    const [httpAgent, httpsAgent] = [new Agent(options), new SecureAgent({ ...options, ...(ca && { ca }) })];
    this.#agents = [httpAgent, httpsAgent];
    // The SDK keeps the files with credentials in memory; a client that is made later is to read them again.
    const fresh: S3ClientConfig & { ignoreCache: boolean } = { ...config, ignoreCache: true };
    this.client = new sdk.S3Client({
      ...fresh,
      requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: IDLE_MS, httpAgent, httpsAgent },
    });
    this.client.middlewareStack.add(limitingBodies, { step: 'deserialize', priority: 'low' });
    // It prepares what it would log for each request, and nobody listens.
    this.client.middlewareStack.remove('loggerMiddleware');
  }

  /** Of the connections that are open: it changes as well when one is closed, which is a sign of life, too. */
  get received(): number {
    let sum = 0;
    for (const { sockets, freeSockets } of this.#agents)
      for (const list of [...Object.values(sockets), ...Object.values(freeSockets)])
        for (const socket of list ?? []) sum += (socket as Socket).bytesRead;
    return sum;
  }

  /** What is under way is made anew: the SDK cannot wait for it. */
  retire(): void {
    this.destroy();
  }

  destroy(): void {
    this.client.destroy();
  }
}

/** What the SDK reads whole, a listing or an error, is no longer than this, in bytes: a page of a listing has some 500 KiB. */
const MAX_TEXT = 16 << 20;

/** Cuts off what a server says without end, which the SDK would gather in memory. Objects are read by ourselves. */
const limitingBodies: DeserializeMiddleware =
  (next, { commandName }) =>
  async (asked) => {
    const answer = await next(asked);
    const response = answer.response as { statusCode: number; body: unknown };
    const isObject = commandName === 'GetObjectCommand' && response.statusCode < 300;
    if (!isObject && response.body instanceof Readable) response.body = limited(response.body);
    return answer;
  };

function limited(body: Readable): Readable {
  let length = 0;
  const counting = new Transform({
    transform(part: Buffer, _encoding, done) {
      length += part.length;
      if (length > MAX_TEXT) done(damaged(`an answer of the S3 server is longer than ${MAX_TEXT} bytes`));
      else done(null, part);
    },
  });
  return pipeline(body, counting, () => {});
}
