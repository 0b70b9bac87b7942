import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import type { PeerCertificate } from 'node:tls';
import { checkServerIdentity } from 'node:tls';
import { ChannelCredentials } from '@grpc/grpc-js';
import { reasonOf, UsageError } from '../../util/errors.ts';
import { socketName } from '../../util/listen-address.ts';
import { Channel } from './channel.ts';
import type { Dialect } from './methods.ts';
import { DIALECTS } from './methods.ts';

/** Parameters that a gRPC address may have. */
export const GRPC_PARAMETERS = ['wait-connect', 'protocol', 'ca', 'cert', 'key', 'token-file'] as const;
const CONNECT_MS = 10_000;
/** A name that no server has (RFC 2606). */
const NO_NAME = 'ip-address.invalid';

/** Opens the channel of `grpc+http://host:port`, `grpc+https://…` or `grpc+unix:///path`. */
export async function dial(url: URL, firstAnswerMs?: number): Promise<Channel> {
  const dialect = url.searchParams.get('protocol');
  if (dialect !== null && !DIALECTS.includes(dialect as Dialect)) {
    throw new UsageError(`${url.href}: protocol=${dialect} is unknown; want ${DIALECTS.join(' or ')}`);
  }
  const token = fileOf(url, 'token-file')?.toString().trim();
  const channel = new Channel(url.href, targetOf(url), credentialsOf(url), {
    dialect: (dialect as Dialect) ?? undefined,
    token,
    firstAnswerMs,
    tlsName: addressOf(url) && NO_NAME,
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

function credentialsOf(url: URL): ChannelCredentials {
  const file = (name: string) => {
    if (url.searchParams.has(name) && url.protocol !== 'grpc+https:')
      throw new UsageError(`${url.href}: ${name} goes with grpc+https://`);
    return fileOf(url, name);
  };
  const [ca, cert, key] = [file('ca'), file('cert'), file('key')];
  if (url.protocol !== 'grpc+https:') return ChannelCredentials.createInsecure();
  if ((cert === null) !== (key === null)) throw new UsageError(`${url.href}: cert and key go together`);
  const address = addressOf(url);
  if (!address) return ChannelCredentials.createSsl(ca, key, cert);
  return ChannelCredentials.createSsl(ca, key, cert, {
    checkServerIdentity: (_name, certificate: PeerCertificate) => checkServerIdentity(address, certificate),
  });
}

/**
 * The IP address of a host that has no name. In a TLS handshake that is no name to be asked for (RFC 6066), and from
 * Node 26 on an error, but grpc-js cannot do without one: the certificate is checked against the address.
 */
function addressOf({ hostname }: URL): string | undefined {
  const address = hostname.replace(/^\[(.*)\]$/, '$1');
  return isIP(address) ? address : undefined;
}

/** The file that a parameter names; null without the parameter. */
function fileOf(url: URL, name: string): Buffer | null {
  const path = url.searchParams.get(name);
  try {
    return path === null ? null : readFileSync(path);
  } catch (error) {
    throw new UsageError(`${url.href}: cannot read ${name}: ${reasonOf(error)}`, { cause: error });
  }
}
