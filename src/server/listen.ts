import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { messageOf, StoreError, systemCode } from '../util/errors.ts';
import type { ListenAddress, SocketOwnership } from '../util/listen-address.ts';
import { applyOwnership, removeStale, systemdSockets } from '../util/listen-address.ts';

/** Listens, and hands each connection on. Gives the servers, and the addresses for people. */
export async function listen(
  address: ListenAddress,
  ownership: SocketOwnership,
  onConnection: (socket: Socket) => void,
): Promise<{ servers: Server[]; addresses: string[] }> {
  const make = () => createServer({ noDelay: true }, onConnection);
  switch (address.kind) {
    case 'tcp': {
      const server = await started(
        make(),
        { host: address.host, port: address.port },
        `${address.host}:${address.port}`,
      );
      const bound = server.address();
      const port = typeof bound === 'object' && bound ? bound.port : address.port;
      const host = address.host.includes(':') ? `[${address.host}]` : address.host;
      return { servers: [server], addresses: [`${host}:${port}`] };
    }
    case 'unix': {
      await removeStale(address.path);
      const server = await started(make(), { path: address.path }, address.path);
      applyOwnership(address.path, ownership);
      return { servers: [server], addresses: [address.path] };
    }
    case 'abstract': {
      const server = await started(make(), { path: `\0${address.name}` }, `@${address.name}`);
      return { servers: [server], addresses: [`@${address.name}`] };
    }
    case 'systemd': {
      const fds = systemdSockets(address.name);
      const servers = await Promise.all(fds.map((fd) => started(make(), { fd }, `socket ${fd} of systemd`)));
      return { servers, addresses: fds.map((fd) => `sd-listen (descriptor ${fd})`) };
    }
  }
}

async function started(server: Server, options: object, shown: string): Promise<Server> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const code = systemCode(error);
      const why = code === 'EADDRINUSE' ? 'something listens there already' : messageOf(error);
      reject(new StoreError('FAILED_PRECONDITION', `cannot listen on ${shown}: ${why}`, { cause: error }));
    });
    server.listen(options, resolve);
  });
  return server;
}
