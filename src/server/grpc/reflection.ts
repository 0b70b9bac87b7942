import { readFileSync } from 'node:fs';
import { codec } from '../../proto/grpc/codec.ts';
import { grpc } from '../../proto/standard.ts';
import { CODES, type Code } from '../../util/errors.ts';
import type { ServedMethod } from './calls.ts';
import { served } from './calls.ts';

const { ServerReflectionRequest, ServerReflectionResponse } = grpc.reflection.v1;
type Request = grpc.reflection.v1.ServerReflectionRequest;
type Response = grpc.reflection.v1.IServerReflectionResponse;

/** Of the second only the name differs; older clients know no other. */
const VERSIONS = ['v1', 'v1alpha'];

const DESCRIPTORS = new URL('../../proto/generated/descriptors.json', import.meta.url);

/** A proto file, as scripts/descriptors.ts describes it. */
export interface DescribedFile {
  readonly name: string;
  /** Names of the files that it imports. */
  readonly dependencies: readonly string[];
  readonly services: readonly string[];
  /** Complete names of everything that it defines. */
  readonly symbols: readonly string[];
  /** Its encoded FileDescriptorProto, in base64. */
  readonly descriptor: string;
}

/** The proto files of all that a server offers, described to clients that ask (protos/grpc/reflection). */
export class Reflection {
  /** Complete names. */
  readonly services: readonly string[];
  readonly #byName: ReadonlyMap<string, DescribedFile>;
  readonly #bySymbol: ReadonlyMap<string, DescribedFile>;

  private constructor(files: readonly DescribedFile[]) {
    this.services = files.flatMap(({ services }) => services);
    this.#byName = new Map(files.map((file) => [file.name, file]));
    this.#bySymbol = new Map(files.flatMap((file) => file.symbols.map((symbol) => [symbol, file])));
  }

  static load(): Reflection {
    return new Reflection(JSON.parse(readFileSync(DESCRIPTORS, 'utf8')));
  }

  methods(): ServedMethod[] {
    const answer = (request: Request) => this.#answer(request);
    return VERSIONS.map((version) =>
      served({
        path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
        shape: {
          request: codec<Request>(ServerReflectionRequest),
          response: codec<Response>(ServerReflectionResponse),
          requestStream: true,
          responseStream: true,
        },
        work: async function* (requests: AsyncIterable<Request>): AsyncGenerator<Response> {
          for await (const request of requests) {
            yield { validHost: request.host, originalRequest: request, ...answer(request) };
          }
        },
      }),
    );
  }

  #answer(request: Request): Response {
    const { messageRequest: kind } = request;
    switch (kind) {
      case 'listServices':
        return { listServicesResponse: { service: this.services.map((name) => ({ name })) } };
      case 'fileByFilename':
        return this.#files(this.#byName.get(request[kind]!)) ?? unknown('file', request[kind]);
      case 'fileContainingSymbol':
        return this.#files(this.#bySymbol.get(request[kind]!)) ?? unknown('symbol', request[kind]);
      // No file of ours extends a type.
      case 'fileContainingExtension':
        return unknown('extension of', request[kind]?.containingType);
      case 'allExtensionNumbersOfType':
        if (!this.#bySymbol.has(request[kind]!)) return unknown('type', request[kind]);
        return { allExtensionNumbersResponse: { baseTypeName: request[kind]! } };
      default:
        return failed('INVALID_ARGUMENT', 'the request asks for nothing that is known here');
    }
  }

  /** A file, and what it imports: clients may take the answer without asking again. */
  #files(file: DescribedFile | undefined): Response | undefined {
    if (!file) return undefined;
    const files = new Set([file]);
    for (const { dependencies } of files) for (const name of dependencies) files.add(this.#byName.get(name)!);
    const fileDescriptorProto = Array.from(files, ({ descriptor }) => Buffer.from(descriptor, 'base64'));
    return { fileDescriptorResponse: { fileDescriptorProto } };
  }
}

function unknown(kind: string, name: string | null | undefined): Response {
  return failed('NOT_FOUND', `there is no ${kind} ${name}`);
}

function failed(code: Code, errorMessage: string): Response {
  return { errorResponse: { errorCode: CODES[code].grpc, errorMessage } };
}
