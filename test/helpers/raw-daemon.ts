import { afterAll, beforeAll, expect } from 'vitest';
import type { Directory } from '../../src/castore/directory.ts';
import { tvix } from '../../src/proto/messages.ts';
import type { TestDaemon } from './daemon.ts';
import { startDaemon } from './daemon.ts';
import { RawClient } from './raw-grpc.ts';
import { tempDir } from './temp.ts';

const { castore, store } = tvix;
const { BlobChunk, GetDirectoryRequest, Node, PutBlobResponse, ReadBlobRequest, StatBlobRequest } =
  castore.v1;
const { GetPathInfoRequest } = store.v1;

export const STAT = '/tvix.castore.v1.BlobService/Stat';
export const READ = '/tvix.castore.v1.BlobService/Read';
export const PUT_BLOB = '/tvix.castore.v1.BlobService/Put';
export const GET_DIRECTORY = '/tvix.castore.v1.DirectoryService/Get';
export const PUT_DIRECTORY = '/tvix.castore.v1.DirectoryService/Put';
export const GET_PATH_INFO = '/tvix.store.v1.PathInfoService/Get';
export const PUT_PATH_INFO = '/tvix.store.v1.PathInfoService/Put';
export const CALCULATE_NAR = '/tvix.store.v1.PathInfoService/CalculateNAR';
export const LIST = '/tvix.store.v1.PathInfoService/List';
export const METHODS = [
  STAT,
  READ,
  PUT_BLOB,
  GET_DIRECTORY,
  PUT_DIRECTORY,
  GET_PATH_INFO,
  PUT_PATH_INFO,
  CALCULATE_NAR,
  LIST,
];

/** A daemon for the test file that imports this, and a client that may send it anything. */
export const dir = tempDir();
export let daemon: TestDaemon;
export let client: RawClient;

beforeAll(async () => {
  daemon = await startDaemon(`local://${dir}/store`);
  client = new RawClient(daemon.at);
});
afterAll(async () => {
  client.close();
  await daemon.stop('SIGKILL');
});

export const call = (path: string, ...requests: Uint8Array[]) => client.call(path, ...requests);
export const stat = (digest: Uint8Array) => call(STAT, StatBlobRequest.encode({ digest }).finish());
export const read = (digest: Uint8Array) => call(READ, ReadBlobRequest.encode({ digest }).finish());
export const putBlob = (...parts: Uint8Array[]) =>
  call(PUT_BLOB, ...parts.map((data) => BlobChunk.encode({ data }).finish()));
export const getDirectory = (digest: Uint8Array, recursive = false) =>
  call(GET_DIRECTORY, GetDirectoryRequest.encode({ digest, recursive }).finish());
export const putDirectories = (...list: Directory[]) =>
  call(PUT_DIRECTORY, ...list.map(({ bytes }) => bytes));
export const getPathInfo = (byOutputHash: Uint8Array) =>
  call(GET_PATH_INFO, GetPathInfoRequest.encode({ byOutputHash }).finish());
export const calculateNar = (node: tvix.castore.v1.INode) => call(CALCULATE_NAR, Node.encode(node).finish());
export const NOWHERE = new Uint8Array(32).fill(0xff);
export const NOTHING = new Uint8Array(0);

/** Puts a blob, and gives its digest. */
export async function blobDigest(...parts: Uint8Array[]): Promise<Uint8Array> {
  const { code, messages } = await putBlob(...parts);
  expect(code).toBe('OK');
  return PutBlobResponse.decode(messages[0]!).digest;
}
