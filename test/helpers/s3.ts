import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { S3ObjectStore } from '../../src/castore/objects/s3.ts';
import { s3Location } from '../../src/store/open/backends/s3-location.ts';
import { S3_DIR, S3_SERVER } from './s3-global.ts';

let places = 0;

/** A Ceph cluster with its S3 gateway. */
export class S3Server {
  readonly endpoint: string;
  readonly #dir: string;

  private constructor(dir: string, endpoint: string) {
    this.#dir = dir;
    this.endpoint = endpoint;
  }

  /** The one in a directory, by default this run's, which is started unless it runs; or why there is none. */
  static start(dir = process.env[S3_DIR]!): S3Server | { missing: string } {
    const { status, stdout, stderr, error } = spawnSync(S3_SERVER, ['start', dir], {
      encoding: 'utf8',
      timeout: 500_000,
    });
    const endpoint = /AWS_ENDPOINT_URL=(\S+)/.exec(stdout)?.[1];
    if (status === 0 && endpoint) return new S3Server(dir, endpoint);
    return { missing: (error?.message ?? stderr.trim()) || 'scripts/s3-server failed' };
  }

  /** An address in a place of its own; with other parameters where they are given. */
  address(parameters: Record<string, string> = {}, bucket = 'test'): string {
    const all = new URLSearchParams({
      aws_endpoint: this.endpoint,
      aws_allow_http: 'true',
      aws_access_key_id: 'test',
      aws_secret_access_key: 'testsecret',
      ...parameters,
    });
    return `objectstore+s3://${bucket}/${process.pid}/${++places}?${all}`;
  }

  objects(address = this.address()): Promise<S3ObjectStore> {
    return S3ObjectStore.open(s3Location(new URL(address)));
  }

  killGateway(): void {
    process.kill(Number(readFileSync(join(this.#dir, 'client.rgw.pid'), 'utf8')), 'SIGKILL');
  }

  startGateway(): void {
    const { status, stderr } = spawnSync(S3_SERVER, ['gateway', this.#dir], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    if (status !== 0) throw new Error(stderr);
  }

  stop(): void {
    spawnSync(S3_SERVER, ['stop', this.#dir]);
  }
}
