import { networkInterfaces } from 'node:os';

/** Whether this machine speaks IPv6 with itself; a container often does not. */
export const HAS_IPV6 = Object.values(networkInterfaces())
  .flat()
  .some((one) => one?.address === '::1');

/** An address of this machine at which it does not look like itself, if it has one. */
export const OUTER_ADDRESS: string | undefined = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
