import { isIP } from 'node:net';
import { resolve } from 'node:path';
import type { PeerCertificate } from 'node:tls';
import { checkServerIdentity } from 'node:tls';
import { ChannelCredentials } from '@grpc/grpc-js';
import type { Patience } from '../../util/async/retry.ts';
import { DEFAULT_PATIENCE } from '../../util/async/retry.ts';
import { requireAuthority, requirePair } from '../../util/certificates.ts';
import { reasonOf, systemCode, UsageError } from '../../util/errors.ts';
import { socketName } from '../../util/listen-address.ts';
import { trustAuthorities } from '../../util/system/authorities.ts';
import { FreshFiles } from '../../util/system/fresh-files.ts';
import { Channel } from './channel.ts';
import type { Dialect } from './methods.ts';
import { DIALECTS } from './methods.ts';

/** Parameters that a gRPC address may have. */
export const GRPC_PARAMETERS = ['wait-connect', 'protocol', 'ca', 'cert', 'key', 'token-file'] as const;
const CONNECT_MS = 10_000;
/** A name that no server has (RFC 2606). */
const NO_NAME = 'ip-address.invalid';

/** Opens the channel of `grpc+http://host:port`, `grpc+https://…` or `grpc+unix:///path`. */
export async function dial(url: URL, patience: Patience = DEFAULT_PATIENCE): Promise<Channel> {
  const dialect = url.searchParams.get('protocol');
  if (dialect !== null && !DIALECTS.includes(dialect as Dialect)) {
    throw new UsageError(`${url.href}: protocol=${dialect} is unknown; want ${DIALECTS.join(' or ')}`);
  }
  const channel = new Channel(url.href, targetOf(url), credentialsOf(url), {
    dialect: (dialect as Dialect) ?? undefined,
    token: tokenOf(url),
    patience,
    tlsName: addressOf(url) && NO_NAME,
    ifBrokenOff: admittance(url),
  });
  if (url.searchParams.get('wait-connect') === '1') await channel.connect(CONNECT_MS);
  return channel;
}

function targetOf(url: URL): string {
  if (url.protocol === 'grpc+unix:') {
    // An abstract name, which begins with a NUL for Linux.
    if (url.pathname.startsWith('@') && url.pathname.length > 1)
      return `unix:\0${socketName(decodeURIComponent(url.pathname.slice(1)))}`;
    if (url.host || url.pathname.length < 2)
      throw new UsageError(
        `${url.href}: write grpc+unix:///${url.host ? `${url.host}${url.pathname}` : 'path/of/the/socket'}`,
      );
    return `unix:${socketName(resolve(decodeURIComponent(url.pathname)))}`;
  }
  if (!url.hostname) throw new UsageError(`${url.href}: name a host, as in grpc+http://localhost:8000`);
  if (url.pathname !== '' && url.pathname !== '/')
    throw new UsageError(`${url.href}: a path has no meaning here`);
  return `dns:${url.hostname}:${url.port || (url.protocol === 'grpc+https:' ? 443 : 80)}`;
}

/** Gives the token in the file that the address names, as it is now. */
function tokenOf(url: URL): (() => string) | undefined {
  const path = url.searchParams.get('token-file');
  if (path === null) return undefined;
  const token = filesOf(url, ['token-file'], (bytes) => {
    const text = bytes['token-file']!.toString().trim();
    if (text === '') throw new UsageError(`${path} is empty`);
    return text;
  });
  return () => token.get();
}

/** Gives what a connection shows and checks, by the files that the address names as they are now. */
function credentialsOf(url: URL): () => ChannelCredentials {
  const names = (['ca', 'cert', 'key'] as const).filter((name) => url.searchParams.has(name));
  if (url.protocol !== 'grpc+https:') {
    if (names[0]) throw new UsageError(`${url.href}: ${names[0]} goes with grpc+https://`);
    const insecure = ChannelCredentials.createInsecure();
    return () => insecure;
  }
  if (names.includes('cert') !== names.includes('key'))
    throw new UsageError(`${url.href}: cert and key go together`);
  if (!names.includes('ca')) trustAuthorities();
  const address = addressOf(url);
  const verify = address && {
    checkServerIdentity: (_name: string, certificate: PeerCertificate) =>
      checkServerIdentity(address, certificate),
  };
  const files = filesOf(url, names, ({ ca = null, cert = null, key = null }) => {
    const named = (name: string, bytes: Buffer) => ({ name: `${name} ${url.searchParams.get(name)}`, bytes });
    if (ca) requireAuthority(named('ca', ca));
    if (cert && key) requirePair(named('cert', cert), named('key', key));
    return ChannelCredentials.createSsl(ca, key, cert, verify || undefined);
  });
  return () => files.get();
}

/** A server that does not admit a client may say so, or only break off. */
function admittance({ protocol, searchParams }: URL): string | undefined {
  if (protocol !== 'grpc+https:') return undefined;
  const cert = searchParams.get('cert');
  return cert === null
    ? '; or whether it asks for a certificate, to be given by cert= and key='
    : `; or whether it admits the authority that signed ${cert}`;
}

/**
 * The IP address of a host that has no name. In a TLS handshake that is no name to be asked for (RFC 6066), and from
 * Node 26 on an error, but grpc-js cannot do without one: the certificate is checked against the address.
 */
function addressOf({ hostname }: URL): string | undefined {
  const address = hostname.replace(/^\[(.*)\]$/, '$1');
  return isIP(address) ? address : undefined;
}

/** What is made of the files that parameters name. */
function filesOf<N extends string, T>(
  url: URL,
  names: readonly N[],
  make: (contents: { readonly [K in N]?: Buffer }) => T,
): FreshFiles<T> {
  // A mount goes to `/` later.
  const paths = names.map((name) => resolve(url.searchParams.get(name)!));
  try {
    return new FreshFiles(paths, (contents) =>
      make(Object.fromEntries(names.map((name, i) => [name, contents[i]])) as { [K in N]?: Buffer }),
    );
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`${url.href}: ${error.message}`, { cause: error });
    const path = (error as NodeJS.ErrnoException).path;
    const name = names[paths.indexOf(path!)] ?? names.join(', ');
    const what = systemCode(error) === undefined ? 'use' : 'read';
    throw new UsageError(`${url.href}: cannot ${what} ${name}: ${reasonOf(error)}`, { cause: error });
  }
}
