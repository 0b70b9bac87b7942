import { parentPort, workerData } from 'node:worker_threads';
import { Environment } from '../castore/local/environment.ts';
import { PinWriter } from '../castore/local/pins.ts';
import type { FreshPayload } from '../fs/fresh-source.ts';
import { FreshSource } from '../fs/fresh-source.ts';
import { NodeTable } from '../fs/node-table.ts';
import { NotingSource } from '../fs/noting-source.ts';
import { LocalSource } from '../fs/source.ts';
import type { Witness } from '../fs/store-file-system.ts';
import { StoreFileSystem } from '../fs/store-file-system.ts';
import { DeviceSession } from '../fuse/device-session.ts';
import { CONTROL } from '../fuse/dispatcher.ts';
import { createHandler } from '../fuse/handler.ts';
import { VhostUserSession } from '../fuse/vhost/session.ts';
import type { Level } from '../util/log.ts';
import { setLogLevel } from '../util/log.ts';
import type { EnteredMessage, UsedMessage } from './statistics.ts';
import { enteredPath } from './statistics.ts';
import { warmUp } from './warm-up.ts';

/** How to speak to the kernel: on `/dev/fuse`, or over a vhost-user socket to that of a virtual machine. */
const TRANSPORTS = {
  device: { Session: DeviceSession, notifies: true },
  'vhost-user': { Session: VhostUserSession, notifies: false },
};
export type TransportName = keyof typeof TRANSPORTS;

/** What a thread that serves the kernel is given. */
export interface WorkerData {
  readonly transport: TransportName;
  readonly storeDir: string;
  readonly remote: boolean;
  readonly listRoot: boolean;
  readonly showXattr: boolean;
  readonly nodes: SharedArrayBuffer;
  /** Where to pin store paths, if anybody might delete them. */
  readonly pinPath: string | undefined;
  /** Tell what is read. */
  readonly notesUse: boolean;
  readonly control: SharedArrayBuffer;
  readonly wakeFd: number;
  readonly logLevel: Level;
}

const data = workerData as WorkerData;
const port = parentPort!;
setLogLevel(data.logLevel);
const local = new LocalSource(Environment.open(data.storeDir));
const tell = (digests: readonly string[]) =>
  port.postMessage({ type: 'used', digests } satisfies UsedMessage);
const source = new FreshSource(data.notesUse ? new NotingSource(local, tell) : local);
warmUp(source, data.storeDir);
const control = new Int32Array(data.control);
const entered = new Set<string>();
const witness: Witness = {
  entered(info) {
    const name = String(info.storePath);
    if (entered.has(name)) return;
    entered.add(name);
    port.postMessage({ type: 'entered', path: enteredPath(info) } satisfies EnteredMessage);
  },
  readFile() {
    control[CONTROL.FILES]!++;
  },
};
const nodes = new NodeTable(data.nodes, data.pinPath === undefined ? undefined : new PinWriter(data.pinPath));
const fs = new StoreFileSystem(source, nodes, { ...data, witness });
const { Session, notifies } = TRANSPORTS[data.transport];
const handler = createHandler(fs, { ...data, notifies });

port.once('message', ({ fd }: { fd: number }) => {
  new Session({
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
