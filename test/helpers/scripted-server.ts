import type { ServerDuplexStream } from '@grpc/grpc-js';
import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { Dialect } from '../../src/proto/grpc/methods.ts';
import { BLOB, CAPABILITIES, CAS, DIRECTORY, methodPath, PATH_INFO } from '../../src/proto/grpc/methods.ts';

/** An answer to a request: encoded messages, perhaps one now and then, or a status by its name. */
export type Reply = readonly Uint8Array[] | AsyncIterable<Uint8Array> | keyof typeof status;
/**
 * Answers to calls, by `Service/Method`; gets the encoded requests. NOT_FOUND without one, and UNIMPLEMENTED of the Remote
 * Execution API unless there is one from the start.
 */
export type Script = Record<string, (...requests: Buffer[]) => Reply | Promise<Reply>>;

export interface ScriptedServer {
  readonly url: string;
  /** May be changed at any time. */
  readonly script: Script;
  /** Calls so far, by `Service/Method`. */
  readonly calls: Map<string, number>;
  close(): void;
}

/** A gRPC server in this process that says whatever it is told to, true or not. */
export async function scriptedServer(script: Script, dialect: Dialect = 'tvix'): Promise<ScriptedServer> {
  const server = new Server();
  const calls = new Map<string, number>();
  const asIs = (bytes: Buffer) => bytes;
  for (const method of [BLOB, DIRECTORY, PATH_INFO, CAPABILITIES, CAS].flatMap((one) => Object.values(one))) {
    const key = `${method.service.split('.').at(-1)}/${method.name}`;
    if (method.layer === 'remote' && !script[key]) continue;
    // On the wire every kind of method is a stream each way.
    const handle = (call: ServerDuplexStream<Buffer, Buffer>) => {
      calls.set(key, (calls.get(key) ?? 0) + 1);
      const requests: Buffer[] = [];
      call.on('data', (request: Buffer) => requests.push(request));
      call.on('end', () => void answer(call, requests));
    };
    const answer = async (call: ServerDuplexStream<Buffer, Buffer>, requests: readonly Buffer[]) => {
      const reply = (await script[key]?.(...requests)) ?? 'NOT_FOUND';
      if (typeof reply === 'string') {
        call.emit('error', { code: status[reply], details: `scripted ${reply}` });
        return;
      }
      for await (const message of reply) call.write(Buffer.from(message));
      call.end();
    };
    server.register(methodPath(dialect, method), handle as never, asIs as never, asIs as never, 'bidi');
  }
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => {
      if (error) reject(error);
      else resolve(bound);
    });
  });
  return { url: `grpc+http://127.0.0.1:${port}`, script, calls, close: () => server.forceShutdown() };
}
