/** The files that a server shows and checks over TLS, as they are now. */
export interface TlsFiles {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** When set, clients must show a certificate of this authority. */
  readonly clientCa?: Buffer | undefined;
}
