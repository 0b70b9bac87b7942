import { createServer, type Socket } from 'node:net';
import type { OpenedStore } from '../../store/services.ts';
import { SideFiles } from '../../store/side-files/side-files.ts';
import { UploadTables } from '../../store/upload/tables.ts';
import { StoreError } from '../../util/errors.ts';
import type { SocketOwnership, UnixAddress } from '../../util/listen-address.ts';
import { log } from '../../util/log.ts';
import { peerOf } from '../../util/system/unix-socket.ts';
import { Connection, isOwner } from '../connection.ts';
import type { RunningServer } from '../listen.ts';
import { closeListener, grace, listen } from '../listen.ts';
import { ConnectionCounts } from '../metrics/connections.ts';
import { RequestCounts, requestMetrics } from '../metrics/requests.ts';
import { Budget } from '../shares/budget.ts';
import { additions } from './additions.ts';
import { builds } from './builds.ts';
import { keeping } from './keeping.ts';
import { Places } from './places.ts';
import { queries } from './queries.ts';
import { Session } from './session.ts';
import { sideFiles } from './side-files.ts';
import { SocketParts } from './socket-parts.ts';

/** Clients at once; see `Places`. */
const MAX_CONNECTIONS = 512;
/** How long requests may take when the server stops. */
const GRACE_MS = 5000;

/** Who may add something: nobody, root and the user of this process, or everybody who can connect. */
export type Writers = 'nobody' | 'owners' | 'everybody';

export interface NixDaemonOptions {
  readonly store: OpenedStore;
  readonly listen: UnixAddress;
  readonly ownership: SocketOwnership;
  readonly writers: Writers;
  /** What requests and answers may take, in bytes; see `Budget`. */
  readonly maxMemory?: number | undefined;
}

/** Serves a store by the protocol that Nix speaks to its own daemon. */
export async function serveNixDaemon({
  store,
  listen: address,
  ownership,
  writers,
  maxMemory,
}: NixDaemonOptions): Promise<RunningServer> {
  const tables = new UploadTables(store.records());
  const operations = {
    ...queries(store),
    ...additions(store, tables),
    ...sideFiles(new SideFiles(store, tables.store)),
    ...builds(store),
    ...keeping(store),
  };
  const budget = new Budget(maxMemory);
  const sessions = new Map<Socket, Session>();
  const places = new Places(MAX_CONNECTIONS);
  const counts = new RequestCounts();
  const open = new ConnectionCounts<Session>();
  const make = () => {
    const server = createServer({ pauseOnConnect: true });
    server.on('connection', (accepted) => {
      const { peer } = Connection.current!;
      const parts = new SocketParts(accepted);
      const { socket } = parts;
      const place = places.take(peerOf(accepted)?.uid, () => socket.destroy());
      const mayWrite = writerCheck(writers, socket);
      const session = new Session(parts, {
        operations,
        mayWrite,
        share: () => budget.share(peer),
        place,
        counts,
        onRequest: () => open.asked(session),
      });
      sessions.set(socket, session);
      open.opened(session, socket);
      socket.once('close', () => {
        sessions.delete(socket);
        place.leave();
      });
      socket.on('error', (error) => log.debug('a connection broke', { error: error.message }));
      void session.run();
    });
    return server;
  };
  const { servers, addresses } = await listen(address, ownership, make);
  return {
    addresses,
    metrics: [...requestMetrics('worker', 'operation', counts), ...open.metrics('worker')],
    async stop(hurry) {
      const closed = Promise.all(servers.map(closeListener));
      for (const session of sessions.values()) session.stop();
      await grace(closed, GRACE_MS, hurry);
      for (const socket of sessions.keys()) socket.destroy();
      await closed;
    },
  };
}

/** Gives what throws when the peer may not write. */
function writerCheck(writers: Writers, socket: Socket): () => void {
  if (writers === 'everybody' || (writers === 'owners' && isOwner(socket))) return () => {};
  const why =
    writers === 'nobody'
      ? 'this server takes no uploads: it is read-only'
      : 'this server takes uploads only from root and from its own user; start it with --allow-anonymous-upload to let others in';
  return () => {
    throw new StoreError('PERMISSION_DENIED', why);
  };
}
