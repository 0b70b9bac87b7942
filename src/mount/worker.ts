import { parentPort, workerData } from 'node:worker_threads';
import { Environment } from '../castore/local/environment.ts';
import type { FreshPayload } from '../fs/fresh-source.ts';
import type { Owner } from '../fs/stat.ts';
import type { InodeBits } from '../fs/store-file-system.ts';
import { COUNTER } from '../fuse/counters.ts';
import { DeviceSession } from '../fuse/device-session.ts';
import { createHandler } from '../fuse/handler.ts';
import { VhostUserSession } from '../fuse/vhost/session.ts';
import type { LogSettings } from '../util/log.ts';
import { neverWaitToLog, setLogFormat, setLogLevel } from '../util/log.ts';
import { openTree } from './served-tree.ts';
import type { EnteredMessage, UsedMessage } from './statistics.ts';
import { warmUp } from './warm-up.ts';

/** How to speak to the kernel: on `/dev/fuse`, or over a vhost-user socket to that of a virtual machine. */
const TRANSPORTS = { device: DeviceSession, 'vhost-user': VhostUserSession };
export type TransportName = keyof typeof TRANSPORTS;

/** Data for a thread that serves the kernel. */
export interface WorkerData {
  readonly transport: TransportName;
  readonly storeDir: string;
  readonly usageDir: string;
  /** As this process has opened it: LMDB cannot have it otherwise in another thread. */
  readonly readOnly: boolean;
  readonly remote: boolean;
  readonly trustedKeys: readonly string[] | undefined;
  readonly listRoot: boolean;
  readonly showXattr: boolean;
  readonly owner: Owner | undefined;
  /** See `HandlerOptions`. */
  readonly notifies: boolean;
  readonly nodes: SharedArrayBuffer;
  /** Where to pin store paths, if anybody might delete them. */
  readonly pinPath: string | undefined;
  readonly inodeBits?: InodeBits | undefined;
  /** See `ServeContext`. */
  readonly readLog: SharedArrayBuffer | undefined;
  /** Tell what is read. */
  readonly notesUse: boolean;
  readonly control: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  readonly wakeFd: number;
  readonly log: LogSettings;
}

/** Message of a serving thread: chunks are to be hashed ahead, in this memory. */
export interface AheadMessage {
  readonly type: 'ahead';
  readonly memory: SharedArrayBuffer;
}

const data = workerData as WorkerData;
const port = parentPort!;
setLogLevel(data.log.level);
setLogFormat(data.log.format);
neverWaitToLog();
const control = new Int32Array(data.control);
const counters = new Float64Array(data.counters);
const { fs, source, accept } = openTree({
  env: data.readOnly ? Environment.openToRead(data.storeDir) : Environment.open(data.storeDir),
  usageDir: data.usageDir,
  nodes: data.nodes,
  pinPath: data.pinPath,
  inodeBits: data.inodeBits,
  remote: data.remote,
  readLog: data.readLog,
  trustedKeys: data.trustedKeys,
  startAhead: (memory) => port.postMessage({ type: 'ahead', memory } satisfies AheadMessage),
  onUsed: data.notesUse
    ? (digests) => port.postMessage({ type: 'used', digests } satisfies UsedMessage)
    : undefined,
  onEntered: (path) => port.postMessage({ type: 'entered', path } satisfies EnteredMessage),
  onFileRead() {
    counters[COUNTER.FILES]!++;
  },
});
warmUp(source, data.storeDir);
const Session = TRANSPORTS[data.transport];
const handler = createHandler(fs, data);

port.once('message', ({ fd }: { fd: number }) => {
  new Session({
    fd,
    wakeFd: data.wakeFd,
    control,
    counters,
    port,
    fs,
    handler,
    onPayload: (payload) => accept(payload as FreshPayload),
  }).run();
  process.exit();
});
port.postMessage({ type: 'ready' });
