import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { secondsOf } from './experiments.mjs';
import { importPath, run } from './processes.mjs';

const SERVER = fileURLToPath(new URL('../scripts/s3-server', import.meta.url));
const CLIENT = fileURLToPath(new URL('./s3-client.mjs', import.meta.url));

/** A column of the gateway with plain HTTP, and of our store in its bucket. */
export const S3_COLUMNS = ['bare S3', 'S3'];

/** As in experiments.mjs. */
export const s3Experiments = [
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
      const client = async (operation, order) =>
        JSON.parse(await run(process.execPath, [CLIENT, operation, JSON.stringify(order)]));
      if (column === 'bare S3') {
        const { endpoint, publicBucket: bucket } = server;
        return client('bare', { endpoint, bucket, root, list: lists.files.file });
      }
      const store = server.freshStore();
      let name;
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
  #folder;

  static async start(folder) {
    const server = new S3Server();
    server.#folder = folder;
    const said = await run(SERVER, ['start', folder]);
    server.endpoint = /AWS_ENDPOINT_URL=(\S+)/.exec(said)[1];
    await server.#makePublicBucket();
    return server;
  }

  async #makePublicBucket() {
    process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
    const { CreateBucketCommand, PutBucketPolicyCommand, S3Client } = await import('@aws-sdk/client-s3');
    const client = new S3Client({
      endpoint: this.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: { accessKeyId: 'test', secretAccessKey: 'testsecret' },
    });
    this.publicBucket = 'public';
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
  freshStore() {
    const parameters = new URLSearchParams({
      aws_endpoint: this.endpoint,
      aws_allow_http: 'true',
      aws_access_key_id: 'test',
      aws_secret_access_key: 'testsecret',
    });
    return `objectstore+s3://test/${randomUUID()}?${parameters}`;
  }

  stop() {
    spawnSync(SERVER, ['stop', this.#folder]);
  }
}
