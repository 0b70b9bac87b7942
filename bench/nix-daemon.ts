import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Experiment } from './experiment.ts';
import { secondsOf } from './experiment.ts';
import { launch, run, Service } from './processes.ts';
import type { Workspace } from './workspace.ts';

const PATHS = 5000;
/** Text files that refer to each other, and one that refers to all of them. */
const CLOSURE = `let
  file = i: paths: builtins.toFile "f\${toString i}" "\${toString i} \${builtins.concatStringsSep " " paths}";
  all = builtins.genList (i: file i (if i < 5 then [ ] else [ (builtins.elemAt all (i / 3)) (builtins.elemAt all (i / 2)) ])) ${PATHS - 1};
in file ${PATHS} all`;

/** What Nix does over the socket of a daemon: its own, or ours. */
export const nixDaemonExperiments: readonly Experiment[] = [
  {
    name: 'nix-daemon',
    columns: ['nix', 'tvix-store'],
    mostRounds: 3,
    lines: {
      put: { title: `nix copy --to a daemon, ${PATHS} store paths`, unit: 's' },
      closure: {
        title: `nix path-info -r of ${PATHS} store paths`,
        unit: 's',
        goal: { atMost: 1, of: 'nix' },
      },
    },
    measure: (column, workspace) =>
      workspace.withMemoryFolder(async (folder) => {
        const nix = (...args: string[]) => runNix(workspace, args);
        writeFileSync(join(folder, 'closure.nix'), CLOSURE);
        const own = join(folder, 'own');
        const top = await nix('eval', '--raw', '--store', own, '-f', join(folder, 'closure.nix'));
        const socket = join(folder, 'socket');
        const daemon = await (column === 'nix' ? nixDaemon : ourDaemon)(join(folder, 'store'), socket);
        const url = `unix://${socket}`;
        const put = await secondsOf(() => nix('copy', '--no-check-sigs', '--from', own, '--to', url, top));
        // Once before, as with every reader.
        await nix('path-info', '-r', '--store', url, top);
        const closure = await secondsOf(() => nix('path-info', '-r', '--store', url, top));
        await daemon.stop();
        return { put, closure };
      }),
  },
];

function ourDaemon(store: string, socket: string): Promise<Service> {
  const args = ['nix-daemon', '--store', `local://${store}`, '-l', socket];
  return launch(args, 'info: listening', undefined, (child) => new Service(child));
}

function nixDaemon(store: string, socket: string): Promise<Service> {
  const script = `NIX_REMOTE="$0" NIX_DAEMON_SOCKET_PATH="$1" nix-daemon & trap "kill $!" TERM
    until [ -S "$1" ]; do sleep 0.05; done; echo listening >&2; wait`;
  return launch(['-c', script, store, socket], 'listening', 'sh', (child) => new Service(child));
}

function runNix(workspace: Workspace, args: readonly string[]): Promise<string> {
  const config = 'NIX_CONFIG=build-users-group =\nextra-experimental-features = nix-command\nsubstituters =';
  return run('env', [`HOME=${workspace.freshFolder()}`, config, 'nix', ...args]);
}
