import { networkInterfaces } from 'node:os';

/** Whether this machine speaks IPv6 with itself; a container often does not. */
export const HAS_IPV6 = Object.values(networkInterfaces())
  .flat()
  .some((one) => one?.address === '::1');
