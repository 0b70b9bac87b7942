import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { expect } from 'vitest';
import {
  CLIENT_MAGIC,
  DAEMON_MAGIC,
  NEWEST_VERSION,
  OPERATION,
  REPLY,
} from '../../src/nix/worker/protocol.ts';
import { WireReader } from '../../src/nix/worker/reader.ts';
import { WireWriter } from '../../src/nix/worker/writer.ts';

export const ABSENT = '/nix/store/66120w4fki3x3ps0dgwr3m5sgd2ys5l4-absent';

/** A client that says whatever it is told to. */
export class RawNixClient {
  readonly socket: Socket;
  readonly from: WireReader;
  readonly to = new WireWriter();

  constructor(path: string) {
    this.socket = connect(path);
    this.socket.on('error', () => {});
    this.from = new WireReader(this.socket[Symbol.asyncIterator]());
  }

  send(bytes: Uint8Array = this.to.take()): void {
    this.socket.write(bytes);
  }

  async greet(): Promise<void> {
    this.to.number(CLIENT_MAGIC).number(NEWEST_VERSION).texts(['a-feature']).number(0).number(0);
    this.send();
    expect(await this.from.number()).toBe(DAEMON_MAGIC);
    expect(await this.from.count('version')).toBe(NEWEST_VERSION);
    expect(await this.from.texts()).toEqual([]);
    expect(await this.from.text()).toBe('tvix-store');
    expect(await this.from.number()).toBe(1n);
    expect(await this.from.count('reply')).toBe(REPLY.LAST);
  }

  /** The message of the error that is answered. */
  async refusal(): Promise<string> {
    expect(await this.from.count('reply')).toBe(REPLY.ERROR);
    await this.from.text();
    await this.from.number();
    await this.from.text();
    const message = await this.from.text();
    await this.from.number();
    await this.from.number();
    return message;
  }

  /** Asks for something simple, and is answered. */
  async works(): Promise<void> {
    this.to.number(OPERATION.IsValidPath).text(ABSENT);
    this.send();
    expect(await this.from.count('reply')).toBe(REPLY.LAST);
    expect(await this.from.flag()).toBe(false);
  }
}
