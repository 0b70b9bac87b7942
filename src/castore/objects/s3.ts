import type { Readable } from 'node:stream';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { orAborted } from '../../util/async/abort.ts';
import { tellingArrivals } from '../../util/async/arrivals.ts';
import { FaultDomain } from '../../util/async/fault-domain.ts';
import { Limiter } from '../../util/async/limiter.ts';
import { LinePlaces } from '../../util/async/line-places.ts';
import { Outage } from '../../util/async/outage.ts';
import { Pools } from '../../util/async/pools.ts';
import type { Patience } from '../../util/async/retry.ts';
import { DEFAULT_PATIENCE, retrying } from '../../util/async/retry.ts';
import { collect } from '../../util/bytes.ts';
import { damaged, StoreError } from '../../util/errors.ts';
import { trustAuthorities } from '../../util/system/authorities.ts';
import type { Condition, ListedObject, ObjectFacts, ObjectStore, StoredObject } from './object-store.ts';
import type { FailureContext } from './s3-failure.ts';
import {
  failureOf,
  isConditionFailure,
  isDenied,
  isExpired,
  isMissingObject,
  isUnexplained,
} from './s3-failure.ts';
import type { Sdk } from './s3-pool.ts';
import { MAX_SOCKETS, S3Pool } from './s3-pool.ts';

/** As S3 has it. */
const REMOVED_AT_ONCE = 1000;
/** How long it is tried until there has been a first answer, in milliseconds, by who takes an address without one for wrong. */
const FIRST_MS = 500;

export interface S3Location {
  readonly address: string;
  readonly bucket: string;
  /** Before every key; empty, or ends with a slash. */
  readonly prefix: string;
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  /** `https://bucket.host/key`, and not `https://host/bucket/key`. */
  readonly virtualHosted: boolean;
  /** Where they are looked for otherwise, the SDK knows. */
  readonly credentials?: { accessKeyId: string; secretAccessKey: string; sessionToken?: string } | undefined;
  readonly profile?: string | undefined;
  /** Gives the authority (PEM) that alone is trusted, in place of those of the machine. */
  readonly ca?: (() => Buffer) | undefined;
  /** Ask as nobody. */
  readonly anonymous: boolean;
}

/** A part of an object. */
export interface ObjectPart {
  readonly bytes: Uint8Array;
  /** Bytes of all of it. */
  readonly total: number;
  /** Changes with the contents. */
  readonly tag: string | undefined;
  /** As HTTP's Content-Encoding. */
  readonly encoding: string | undefined;
}

/** Objects in a bucket of S3, or of what speaks its protocol. */
export class S3ObjectStore implements ObjectStore {
  readonly address: string;
  readonly isFar = true;
  readonly #sdk: Sdk;
  readonly #domain: FaultDomain;
  readonly #pools: Pools<S3Pool>;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #context: FailureContext;
  readonly #limiter = new Limiter(MAX_SOCKETS);
  readonly #places = new LinePlaces();
  #answered = false;
  /** Whether an object has been read. */
  #mayRead = false;
  readonly #patience: Patience;
  readonly #outage: Outage;

  private constructor(sdk: Sdk, options: S3ClientConfig, location: S3Location, patience: Patience) {
    this.#sdk = sdk;
    this.#pools = new Pools(() => new S3Pool(sdk, options, location.ca?.()));
    this.#domain = new FaultDomain(`the connection to ${location.address}`, () => this.#pools.reset());
    this.address = location.address;
    this.#bucket = location.bucket;
    this.#patience = patience;
    this.#outage = new Outage(location.address);
    this.#prefix = location.prefix;
    const { address, bucket, endpoint } = location;
    this.#context = {
      address,
      bucket,
      endpoint: endpoint ?? process.env.AWS_ENDPOINT_URL_S3 ?? process.env.AWS_ENDPOINT_URL ?? 'S3',
    };
  }

  /** Asks nothing of the bucket yet. */
  static async open(location: S3Location, patience: Patience = DEFAULT_PATIENCE): Promise<S3ObjectStore> {
    // Or it warns, on standard error and each time, of versions to come.
    process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true';
    if (!location.endpoint?.startsWith('http:')) trustAuthorities();
    const sdk = await import('@aws-sdk/client-s3');
    return new S3ObjectStore(sdk, await configuration(sdk, location), location, patience);
  }

  get(key: string, limit: number, signal?: AbortSignal): Promise<StoredObject | undefined> {
    return this.#ask(signal, async (client, until) => {
      const command = new this.#sdk.GetObjectCommand(this.#at(key));
      const found = await this.#orAbsent(client.send(command, until));
      if (!found) return undefined;
      this.#mayRead = true;
      const body = found.Body as Readable;
      const bytes = await collect(tellingArrivals(body), limit);
      if (!bytes) throw damaged(`${this.address}: ${key} has more than ${limit} bytes`);
      if (found.ContentLength !== undefined && bytes.length !== found.ContentLength) {
        throw new StoreError('UNAVAILABLE', `${this.address}: the connection broke`);
      }
      return { bytes, tag: found.ETag ?? '', modified: found.LastModified?.getTime() ?? Date.now() };
    });
  }

  /**
   * A part of an object, from `start` on and at most so many bytes; `undefined` when there is none. With a `tag`, of no
   * other object that has taken its place.
   */
  part(
    key: string,
    { start, length, tag }: { start: number; length: number; tag?: string | undefined },
    signal?: AbortSignal,
  ): Promise<ObjectPart | undefined> {
    return this.#ask(signal, async (client, until) => {
      const Range = `bytes=${start}-${start + length - 1}`;
      const command = new this.#sdk.GetObjectCommand({
        ...this.#at(key),
        Range,
        ...(tag ? { IfMatch: tag } : {}),
      });
      const found = await this.#orAbsent(client.send(command, until));
      if (!found) return undefined;
      this.#mayRead = true;
      const bytes = await collect(tellingArrivals(found.Body as Readable), length);
      if (!bytes) throw damaged(`${this.address}: ${key} came with more than was asked for`);
      if (found.ContentLength !== undefined && bytes.length !== found.ContentLength)
        throw new StoreError('UNAVAILABLE', `${this.address}: the connection broke`);
      const total = Number(/\/(\d+)$/.exec(found.ContentRange ?? '')?.[1] ?? bytes.length);
      return { bytes, total, tag: found.ETag, encoding: found.ContentEncoding };
    });
  }

  facts(key: string, signal?: AbortSignal): Promise<ObjectFacts | undefined> {
    return this.#ask(signal, async (client, until) => {
      const command = new this.#sdk.HeadObjectCommand(this.#at(key));
      const found = await this.#orAbsent(
        client.send(command, until).catch((error) => this.#explained(client, key, error, until)),
      );
      if (!found) return undefined;
      const [md5] = /[0-9a-f]{32}/.exec(found.ETag ?? '') ?? [];
      return { size: found.ContentLength ?? 0, modified: found.LastModified?.getTime() ?? Date.now(), md5 };
    });
  }

  /**
   * Gives `undefined` for an object that is not there. Where objects may not be listed, that looks like one that may not be
   * read: it is taken for it once another could be read.
   */
  async #orAbsent<T>(answer: Promise<T>): Promise<T | undefined> {
    try {
      return await answer;
    } catch (error) {
      if (isMissingObject(error) || (this.#mayRead && isDenied(error))) return undefined;
      throw error;
    }
  }

  /** Throws why HEAD was refused: the answer to GET says it. */
  async #explained(
    client: S3Client,
    key: string,
    error: unknown,
    until: { abortSignal?: AbortSignal },
  ): Promise<never> {
    if (!isUnexplained(error)) throw error;
    const command = new this.#sdk.GetObjectCommand({ ...this.#at(key), Range: 'bytes=0-0' });
    const { Body } = await client.send(command, until);
    (Body as Readable).destroy();
    throw error;
  }

  async put(key: string, bytes: Uint8Array, condition: Condition, signal?: AbortSignal): Promise<boolean> {
    if (condition === 'absent') return this.#put(key, bytes, { IfNoneMatch: '*' }, signal);
    if (condition === 'always') return this.#put(key, bytes, {}, signal);
    // Ceph compares the bare tag, against the standard. Whatever compares the quoted one refuses the bare one.
    const bare = condition.tag.replaceAll('"', '');
    return (
      (await this.#put(key, bytes, { IfMatch: bare }, signal)) ||
      this.#put(key, bytes, { IfMatch: `"${bare}"` }, signal)
    );
  }

  #put(
    key: string,
    Body: Uint8Array,
    condition: { IfNoneMatch?: string; IfMatch?: string },
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const send = async () => {
      const command = new this.#sdk.PutObjectCommand({ ...this.#at(key), Body, ...condition });
      try {
        await this.#pools.pool.client.send(command, until(signal));
        return true;
      } catch (error) {
        // What has just been removed has no tag any more.
        if (isConditionFailure(error) || (condition.IfMatch !== undefined && isMissingObject(error)))
          return false;
        throw error;
      }
    };
    return this.#places.run(Body.length, () => this.#request(signal, send), signal);
  }

  async remove(keys: readonly string[], signal?: AbortSignal): Promise<void> {
    for (let next = 0; next < keys.length; next += REMOVED_AT_ONCE) {
      const some = keys.slice(next, next + REMOVED_AT_ONCE);
      await this.#request(signal, async () => {
        const Objects = some.map((key) => ({ Key: this.#prefix + key }));
        const command = new this.#sdk.DeleteObjectsCommand({
          Bucket: this.#bucket,
          Delete: { Objects, Quiet: true },
        });
        const { Errors = [] } = await this.#pools.pool.client.send(command, until(signal));
        const [first] = Errors;
        if (first)
          throw new StoreError(
            first.Code === 'AccessDenied' ? 'PERMISSION_DENIED' : 'UNAVAILABLE',
            `${this.address}: cannot remove ${first.Key} and ${Errors.length - 1} more: ${first.Message ?? first.Code}`,
          );
      });
    }
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<ListedObject> {
    let token: string | undefined;
    do {
      const page = await this.#ask(signal, (client, until) =>
        client.send(
          new this.#sdk.ListObjectsV2Command({
            Bucket: this.#bucket,
            Prefix: this.#prefix + prefix,
            ContinuationToken: token,
          }),
          until,
        ),
      );
      for (const { Key, Size = 0, LastModified } of page.Contents ?? []) {
        if (Key === undefined) continue;
        yield {
          key: Key.slice(this.#prefix.length),
          size: Size,
          modified: LastModified?.getTime() ?? Date.now(),
        };
      }
      const next = page.IsTruncated ? (page.NextContinuationToken ?? '') : undefined;
      if (next === '' || (next !== undefined && next === token))
        throw new StoreError(
          'INTERNAL',
          `${this.address}: a listing was cut short, and does not say where it goes on`,
        );
      token = next;
    } while (token !== undefined);
  }

  async close(): Promise<void> {
    this.#pools.close();
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + key };
  }

  /** Runs a request that may be made twice. */
  #ask<T>(
    signal: AbortSignal | undefined,
    send: (client: S3Client, until: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    return this.#request(signal, () =>
      this.#pools.ask(({ client }, unwanted) => send(client, until(unwanted)), signal),
    );
  }

  /** Runs a request in its turn, with its retries; what it throws is a StoreError. */
  #request<T>(signal: AbortSignal | undefined, send: () => Promise<T>): Promise<T> {
    const first = this.#answered ? undefined : this.#patience.firstAnswerMs;
    const attempt = async () => {
      signal?.throwIfAborted();
      const { pool } = this.#pools;
      try {
        const result = await this.#domain.run(() =>
          first ? orAborted(send(), AbortSignal.timeout(first)) : send(),
        );
        this.#answered = true;
        this.#outage.answered();
        return result;
      } catch (error) {
        signal?.throwIfAborted();
        // Others may have been put in their place.
        if (isExpired(error)) this.#pools.renew(pool);
        throw error instanceof StoreError ? error : failureOf(error, this.#context);
      }
    };
    const isTransient = (error: unknown) =>
      error instanceof StoreError &&
      (error.code === 'UNAVAILABLE' ||
        isExpired(error.cause) ||
        (error.code === 'DEADLINE_EXCEEDED' && !first));
    const awayMs =
      this.#answered || this.#patience.firstAnswerMs === undefined ? this.#patience.awayMs : FIRST_MS;
    const options = { awayMs, isTransient, onFailure: this.#outage.failed, signal };
    return this.#limiter.run(() => retrying(options, attempt), signal);
  }
}

async function configuration(sdk: Sdk, location: S3Location): Promise<S3ClientConfig> {
  const { endpoint, region, profile } = location;
  const given: S3ClientConfig = {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(profile === undefined ? {} : { profile }),
    ...(location.credentials ? { credentials: location.credentials } : {}),
    ...(location.anonymous ? ANONYMOUS : {}),
    forcePathStyle: !location.virtualHosted,
    followRegionRedirects: true,
    // Retries are ours, round the whole of a request.
    maxAttempts: 1,
    // What others that speak S3 understand.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // It would cost a connection.
    expectContinueHeader: false,
  };
  if (region !== undefined) return { ...given, region };
  // The SDK finds it in the environment or the files; without it, as the Rust implementation.
  const found = await new sdk.S3Client(given).config.region().catch(() => 'us-east-1');
  return { ...given, region: found };
}

const ANONYMOUS: S3ClientConfig = {
  credentials: { accessKeyId: '', secretAccessKey: '' },
  signer: { sign: async (request) => request },
};

/** A signal of a request's own: the SDK leaves listeners at it until the answer has been read. */
function until(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal ? { abortSignal: AbortSignal.any([signal]) } : {};
}
