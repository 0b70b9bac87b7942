import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Asks what may have been meant by an address of no known kind; empty when there is no telling. */
export function addressHint(address: string): string {
  const meant = whatIsMeant(address);
  return meant.length === 0 ? '' : `; did you mean ${meant.join(', or ')}?`;
}

function whatIsMeant(address: string): readonly string[] {
  if (/^(?:\/|\.{1,2}(?:\/|$))/.test(address)) {
    return [pathToFileURL(resolve(address)).href.replace(/^file:/, 'local:')];
  }
  if (/^(?:[A-Za-z0-9.-]+|\[[0-9a-f:.]+\]):\d{1,5}$/i.test(address)) return [`grpc+http://${address}`];
  const [, scheme = '', rest = ''] = /^([a-z0-9+.-]+):(.*)$/is.exec(address) ?? [];
  switch (scheme.toLowerCase()) {
    case 'http':
    case 'https':
      return [`grpc+${address} for a daemon`, `nix+${address} for a binary cache`];
    case 'grpc':
      return [`grpc+http:${rest}`, `grpc+https:${rest}`];
    case 'unix':
      return [`grpc+unix:${threeSlashes(rest)}`];
    case 's3':
      return [`objectstore+${address}`];
    case 'file': {
      const path = threeSlashes(rest);
      return [
        `local:${path} for a store`,
        `nix+file:${path} for a binary cache`,
        `objectstore+file:${path} for an object store`,
      ];
    }
    case 'ssh':
    case 'ssh-ng':
      return ['to run a daemon on that machine and forward its socket (ssh -L), then grpc+unix:///socket'];
    default:
      return [];
  }
}

function threeSlashes(rest: string): string {
  return `//${rest.replace(/^\/*/, '/')}`;
}
