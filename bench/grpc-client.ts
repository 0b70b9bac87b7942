/**
 * One user of a daemon, in a process of its own, that is grpc-js and nothing of ours.
 *
 *   grpc-client.ts '{"operation": NAME, "target": ADDRESS, "server": PID, …}'
 *
 * does the operation once or in part untimed, then timed, and prints `seconds` and how much of a processor
 * it and the server used meanwhile, as `client` and `server`. `root` and `list` name the files whose blobs
 * are asked for, as for client.ts.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { blake3 } from '@napi-rs/blake-hash';
import type { Order, Used } from './daemon.ts';

const PROTOS = join(import.meta.dirname, '../protos');
const IN_FLIGHT = 50;
const TICKS_A_SECOND = 100;

interface Client extends grpc.Client {
  Read(request: object): grpc.ClientReadableStream<unknown>;
  Stat(request: object, callback: grpc.requestCallback<unknown>): void;
  Get(request: object, callback: grpc.requestCallback<unknown>): void;
}
type ClientConstructor = new (...connection: ConstructorParameters<typeof grpc.Client>) => Client;
/** What is used of the packages in the files below. */
interface Packages {
  readonly tvix: {
    readonly castore: { readonly v1: { readonly BlobService: ClientConstructor } };
    readonly store: { readonly v1: { readonly PathInfoService: ClientConstructor } };
  };
}
type Call = (i: number) => Promise<void>;

const order: Required<Order> & { operation: keyof typeof operations; target: string; server: number } =
  JSON.parse(process.argv[2]!);
const { tvix } = grpc.loadPackageDefinition(
  loadSync(['tvix/castore/v1/rpc_blobstore.proto', 'tvix/store/v1/rpc_pathinfo.proto'], {
    includeDirs: [PROTOS],
  }),
) as unknown as Packages;
const connection: ConstructorParameters<typeof grpc.Client> = [
  order.target,
  grpc.credentials.createInsecure(),
  { 'grpc-node.flow_control_window': 8 << 20, 'grpc.max_receive_message_length': 64 << 20 },
];
const blobs = new tvix.castore.v1.BlobService(...connection);
const pathInfos = new tvix.store.v1.PathInfoService(...connection);

const operations = {
  /** Reads the blobs one after another; the first time is `first`. */
  async read() {
    const digests = digestsOfFiles();
    await ready(blobs);
    const pass = async () => {
      for (const digest of digests) await readBlob(digest);
    };
    const { seconds: first } = await timed(pass);
    return { ...(await timed(pass)), first };
  },
  /** Reads the first blob in several streams at once. */
  async streams() {
    const [digest] = digestsOfFiles();
    await ready(blobs);
    return timed(() => Promise.all(Array.from({ length: order.streams }, () => readBlob(digest!))));
  },
  async stat() {
    const digests = digestsOfFiles();
    await ready(blobs);
    return manyCalls((i) => unary(blobs, 'Stat', { digest: digests[i % digests.length]! }));
  },
  async 'path-info'() {
    const request = { byOutputHash: Buffer.from(order.hash, 'hex') };
    await ready(pathInfos);
    return manyCalls(() => unary(pathInfos, 'Get', request));
  },
};

function digestsOfFiles(): Buffer[] {
  const paths = readFileSync(order.list, 'utf8').split('\0').slice(0, -1);
  return paths.map((path) => blake3(readFileSync(join(order.root, path))));
}

function ready(client: Client): Promise<void> {
  return new Promise((resolve, reject) => {
    client.waitForReady(Date.now() + 10_000, (error) => (error ? reject(error) : resolve()));
  });
}

function readBlob(digest: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    blobs
      .Read({ digest })
      .on('data', () => {})
      .on('error', reject)
      .on('end', resolve);
  });
}

function unary(client: Client, method: 'Stat' | 'Get', request: object): Promise<void> {
  return new Promise((resolve, reject) => {
    client[method](request, (error) => (error ? reject(error) : resolve()));
  });
}

async function manyCalls(call: Call): Promise<Used> {
  const make = async (count: number) => {
    let begun = 0;
    const one = async () => {
      while (begun < count) await call(begun++);
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, one));
  };
  await make(order.calls / 5);
  return timed(() => make(order.calls));
}

async function timed(work: () => Promise<unknown>): Promise<Used> {
  const [start, client, server] = [performance.now(), clientSeconds(), serverSeconds()];
  await work();
  const seconds = (performance.now() - start) / 1e3;
  return {
    seconds,
    client: (clientSeconds() - client) / seconds,
    server: (serverSeconds() - server) / seconds,
  };
}

function clientSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

function serverSeconds(): number {
  const stat = readFileSync(`/proc/${order.server}/stat`, 'utf8');
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13);
  return (Number(user) + Number(system)) / TICKS_A_SECOND;
}

try {
  console.log(JSON.stringify(await operations[order.operation]()));
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
} finally {
  blobs.close();
  pathInfos.close();
}
