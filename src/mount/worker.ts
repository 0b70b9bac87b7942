import { parentPort, workerData } from 'node:worker_threads';
import { Environment } from '../castore/local/environment.ts';
import type { FreshPayload } from '../fs/fresh-source.ts';
import { FreshSource } from '../fs/fresh-source.ts';
import { NodeTable } from '../fs/node-table.ts';
import { LocalSource } from '../fs/source.ts';
import type { Witness } from '../fs/store-file-system.ts';
import { StoreFileSystem } from '../fs/store-file-system.ts';
import { CONTROL, DeviceSession } from '../fuse/device-session.ts';
import { createHandler } from '../fuse/handler.ts';
import type { Level } from '../util/log.ts';
import { setLogLevel } from '../util/log.ts';
import type { EnteredMessage } from './statistics.ts';
import { closureOf } from './statistics.ts';
import { warmUp } from './warm-up.ts';

/** What a thread that serves the kernel is given. */
export interface WorkerData {
  readonly storeDir: string;
  readonly remote: boolean;
  readonly listRoot: boolean;
  readonly showXattr: boolean;
  readonly nodes: SharedArrayBuffer;
  readonly control: SharedArrayBuffer;
  readonly wakeFd: number;
  readonly logLevel: Level;
}

const data = workerData as WorkerData;
const port = parentPort!;
setLogLevel(data.logLevel);
const source = new FreshSource(new LocalSource(Environment.open(data.storeDir)));
warmUp(source, data.storeDir);
const control = new Int32Array(data.control);
const entered = new Set<string>();
const witness: Witness = {
  entered(info) {
    const name = String(info.storePath);
    if (entered.has(name)) return;
    entered.add(name);
    port.postMessage({ type: 'entered', closure: closureOf(info) } satisfies EnteredMessage);
  },
  readFile() {
    control[CONTROL.FILES]!++;
  },
};
const fs = new StoreFileSystem(source, new NodeTable(data.nodes), { ...data, witness });
const handler = createHandler(fs, data);

port.once('message', ({ fd }: { fd: number }) => {
  new DeviceSession({
    fd,
    wakeFd: data.wakeFd,
    control,
    port,
    fs,
    handler,
    onPayload: (payload) => {
      source.accept(payload as FreshPayload);
      for (const blob of (payload as FreshPayload).revoked ?? []) fs.revoke(blob);
    },
  }).run();
  process.exit();
});
port.postMessage({ type: 'ready' });
