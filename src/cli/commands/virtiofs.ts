import type { Virtiofs } from '../../mount/virtiofs.ts';
import { serveVirtiofs } from '../../mount/virtiofs.ts';
import { parseUnixAddress } from '../../util/listen-address.ts';
import { socketModeOption } from '../arguments.ts';
import { refuseInBackground } from '../background.ts';
import { Command } from '../command.ts';
import type { FileSystemFlags } from '../run-file-system.ts';
import { runFileSystem, withFileSystemOptions } from '../run-file-system.ts';
import type { SocketFlags } from '../socket-ownership.ts';
import { socketOwnership } from '../socket-ownership.ts';

type VirtiofsFlags = FileSystemFlags & Pick<SocketFlags, 'socketMode'>;

export function virtiofsCommand(): Command {
  return withFileSystemOptions(new Command('virtiofs'))
    .summary('serve the store to a virtual machine, as a virtio file system')
    .description(
      'Serves the store to a virtual machine over a vhost-user socket until SIGINT, SIGTERM or SIGHUP. The guest mounts ' +
        'it, read-only, with "mount -t virtiofs". One guest is served at a time; when it has gone, the next may ' +
        'connect.',
    )
    .argument('<SOCKET>', 'where to listen: /path, @abstract or sd-listen')
    .addOption(socketModeOption())
    .example(
      'tvix-store virtiofs /run/store.sock &',
      'qemu-system-x86_64 … -m 1G -object memory-backend-memfd,id=mem,size=1G,share=on \\',
      '  -machine q35,memory-backend=mem -chardev socket,id=store,path=/run/store.sock \\',
      '  -device vhost-user-fs-pci,chardev=store,tag=store,queue-size=1024',
      'mount -t virtiofs -o ro store /nix/store     # in the guest',
    )
    .action(run);
}

async function run(socket: string, flags: VirtiofsFlags): Promise<void> {
  const words = { begun: 'listening', ended: 'stopped', where: ({ address }: Virtiofs) => ({ at: address }) };
  const listen = parseUnixAddress(socket);
  refuseInBackground(listen, flags);
  const ownership = socketOwnership(listen, flags);
  return runFileSystem(flags, words, (options) => serveVirtiofs({ ...options, listen, ownership }));
}
