import type { TlsFiles } from '../server/tls-files.ts';
import { requireAuthority, requirePair } from '../util/certificates.ts';
import { reasonOf, UsageError } from '../util/errors.ts';
import { FreshFiles } from '../util/system/fresh-files.ts';
import type { Command } from './command.ts';

/** Flags that say how a server uses TLS. */
export interface TlsFlags {
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsClientCa?: string;
}

/** Adds the flags about TLS to a command. */
export function withTlsOptions(command: Command): Command {
  return command
    .option('--tls-cert <file>', 'serve over TLS with this certificate chain (PEM)')
    .option('--tls-key <file>', 'the private key of the certificate (PEM)')
    .option('--tls-client-ca <file>', 'admit only clients with a certificate from this authority (PEM)');
}

/** Gives what is served over TLS with, as the files are now. Throws a UsageError for those that cannot be used. */
export function tlsOf(flags: TlsFlags): (() => TlsFiles) | undefined {
  if ((flags.tlsCert === undefined) !== (flags.tlsKey === undefined)) {
    throw new UsageError('--tls-cert and --tls-key go together');
  }
  if (flags.tlsClientCa !== undefined && flags.tlsCert === undefined) {
    throw new UsageError('--tls-client-ca needs --tls-cert and --tls-key');
  }
  if (flags.tlsCert === undefined) return undefined;
  const files = {
    '--tls-cert': flags.tlsCert,
    '--tls-key': flags.tlsKey!,
    '--tls-client-ca': flags.tlsClientCa,
  };
  const paths = Object.values(files).filter((path) => path !== undefined);
  try {
    const fresh = new FreshFiles(paths, ([cert, key, clientCa]) => {
      const named = (flag: keyof typeof files, bytes: Buffer) => ({ name: `${flag} ${files[flag]}`, bytes });
      requirePair(named('--tls-cert', cert!), named('--tls-key', key!));
      if (clientCa) requireAuthority(named('--tls-client-ca', clientCa));
      return { cert: cert!, key: key!, clientCa };
    });
    return () => fresh.get();
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { path } = error as NodeJS.ErrnoException;
    const [flag] = Object.entries(files).find(([, file]) => file === path) ?? [];
    throw new UsageError(`cannot read ${flag} ${path}: ${reasonOf(error)}`, { cause: error });
  }
}
