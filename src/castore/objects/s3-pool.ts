import { Agent } from 'node:http';
import { Agent as SecureAgent } from 'node:https';
import type { Socket } from 'node:net';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import type { Pool } from '../../util/async/pools.ts';

/** Connections, and requests under way, at once. */
export const MAX_SOCKETS = 64;
const CONNECT_MS = 10_000;
/** A request fails when nothing moved for so long, in milliseconds. */
const IDLE_MS = 30_000;

export type Sdk = typeof import('@aws-sdk/client-s3');

/** Connections to a bucket. */
export class S3Pool implements Pool {
  readonly client: S3Client;
  readonly #agents: readonly Agent[];

  constructor(sdk: Sdk, config: S3ClientConfig) {
    const options = { keepAlive: true, maxSockets: MAX_SOCKETS };
    const [httpAgent, httpsAgent] = [new Agent(options), new SecureAgent(options)];
    this.#agents = [httpAgent, httpsAgent];
    // The SDK keeps the files with credentials in memory; a client that is made later is to read them again.
    const fresh: S3ClientConfig & { ignoreCache: boolean } = { ...config, ignoreCache: true };
    this.client = new sdk.S3Client({
      ...fresh,
      requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: IDLE_MS, httpAgent, httpsAgent },
    });
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
