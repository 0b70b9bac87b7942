/** What systems and libraries say of a peer that cannot be reached, in our words, and what to check. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [
    /ECONNREFUSED|connection refused/i,
    'the connection is refused: check that the server runs, and its address and port',
  ],
  [/\bENOENT\b|no such file/, 'there is no such socket: check that the server runs, and the path'],
  [
    /\bEACCES\b|\bEPERM\b|permission denied|operation not permitted/,
    'this user may not connect: check the permissions of the socket',
  ],
  [
    /ENOTFOUND|EAI_AGAIN|Name resolution failed/i,
    'its name cannot be resolved: check the name of the host, and DNS',
  ],
  [
    /ENETUNREACH|EHOSTUNREACH|(?:network|host) is unreachable|no route to host/i,
    'there is no way to it: check the address, and the network',
  ],
  [
    /certificate required|alert (?:handshake failure|unknown ca|bad certificate)/i,
    'it admits only clients with a certificate of an authority that it knows: give that certificate and its key',
  ],
  [
    /certificate|altnames/i,
    'its certificate is not trusted: check the name of the host, and the authority that signed it',
  ],
  [
    /wrong version number|packet length too long/i,
    'what listens there does not speak TLS: check the port, and whether it is meant to be encrypted (https) or not (http)',
  ],
  [
    /EPROTO|SSL routines|Protocol error|ECONNRESET|connection reset|hang up|other side closed|Failed to connect|Connection dropped|does not match the HTTP/i,
    'what listens there speaks another protocol, or breaks off: check the port, and whether it is meant to be encrypted (https) or not (http)',
  ],
  [
    /time(?:d ?)?out|deadline|does not answer/i,
    'it does not answer: check the address, and what lies between, such as a firewall',
  ],
];

/** Why a peer cannot be reached, for a person. What was said is kept where it says more. */
export function whyUnreachable(said: string): string {
  const [, words] = REASONS.find(([pattern]) => pattern.test(said)) ?? [];
  const detail = said.trim().replace(/\s+/g, ' ');
  if (words === undefined) return detail;
  return words.startsWith('its certificate') ? `${words} (${detail})` : words;
}
