import { X509Certificate } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';
import { createSecureContext } from 'node:tls';
import { UsageError } from './errors.ts';

/** A file with a certificate or a key, and how a person names it. */
export interface PemFile {
  readonly name: string;
  readonly bytes: Buffer;
}

/** Throws a UsageError that says what is wrong with a certificate chain or its key, or that they do not go together. */
export function requirePair(cert: PemFile, key: PemFile): void {
  requirePem({ cert: cert.bytes }, `${cert.name} is not a certificate chain in PEM`);
  requirePem({ key: key.bytes }, `${key.name} is not a private key in PEM, or needs a passphrase`);
  requirePem(
    { cert: cert.bytes, key: key.bytes },
    `${key.name} is not the private key of ${cert.name}: give those that go together`,
  );
}

/** Throws a UsageError for what is no certificate of an authority. */
export function requireAuthority(ca: PemFile): void {
  try {
    // A context takes what holds no certificate for one without authorities.
    new X509Certificate(ca.bytes);
  } catch (error) {
    throw new UsageError(`${ca.name} is not a certificate in PEM`, { cause: error });
  }
}

function requirePem(options: SecureContextOptions, otherwise: string): void {
  try {
    createSecureContext(options);
  } catch (error) {
    throw new UsageError(otherwise, { cause: error });
  }
}
