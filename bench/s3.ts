import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { Experiment } from './experiment.ts';
import { secondsOf } from './experiment.ts';
import { importPath, run, runClient } from './processes.ts';

const SERVER = join(import.meta.dirname, '../scripts/s3-server');

/** A column of the gateway with plain HTTP, and of our store in its bucket. */
export const S3_COLUMNS = ['bare S3', 'S3'];

export const s3Experiments: readonly Experiment[] = [
  {
    name: 's3-files',
    columns: S3_COLUMNS,
    lines: {
      put: { title: '2 000 files to S3 (bare: PUTs)', unit: '1/s' },
      get: { title: 'and back (bare: GETs)', unit: '1/s' },
    },
    async measure(column, workspace) {
      const { root, lists } = await workspace.farTree('s3');
      const server = await workspace.s3();
      const client = (operation: string, order: object) =>
        runClient<Record<string, number>>('s3-client.ts', operation, JSON.stringify(order));
      if (column === 'bare S3') {
        const { endpoint, publicBucket: bucket } = server;
        return client('bare', { endpoint, bucket, root, list: lists.files.file });
      }
      const store = server.freshStore();
      let name: string | undefined;
      const seconds = await secondsOf(async () => {
        name = await importPath(store, root);
      });
      const cache = workspace.freshFolder();
      return { put: lists.files.length / seconds, ...(await client('back', { store, name, cache })) };
    },
  },
];

/** A Ceph cluster of this run. */
export class S3Server {
  readonly endpoint: string;
  /** One that everybody may read and write. */
  readonly publicBucket = 'public';
  readonly #folder: string;

  static async start(folder: string): Promise<S3Server> {
    const said = await run(SERVER, ['start', folder]);
    const server = new S3Server(folder, /AWS_ENDPOINT_URL=(\S+)/.exec(said)![1]!);
    await server.#makePublicBucket();
    return server;
  }

  private constructor(folder: string, endpoint: string) {
    this.#folder = folder;
    this.endpoint = endpoint;
  }

  async #makePublicBucket(): Promise<void> {
    process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
    const { CreateBucketCommand, PutBucketPolicyCommand, S3Client } = await import('@aws-sdk/client-s3');
    const client = new S3Client({
      endpoint: this.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: { accessKeyId: 'test', secretAccessKey: 'testsecret' },
    });
    await client.send(new CreateBucketCommand({ Bucket: this.publicBucket }));
    const statement = {
      Effect: 'Allow',
      Principal: '*',
      Action: ['s3:GetObject', 's3:PutObject'],
      Resource: [`arn:aws:s3:::${this.publicBucket}/*`],
    };
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
    await client.send(new PutBucketPolicyCommand({ Bucket: this.publicBucket, Policy }));
    client.destroy();
  }

  /** The address of a store with nothing in it. */
  freshStore(): string {
    const parameters = new URLSearchParams({
      aws_endpoint: this.endpoint,
      aws_allow_http: 'true',
      aws_access_key_id: 'test',
      aws_secret_access_key: 'testsecret',
    });
    return `objectstore+s3://test/${randomUUID()}?${parameters}`;
  }

  stop(): void {
    spawnSync(SERVER, ['stop', this.#folder]);
  }
}
