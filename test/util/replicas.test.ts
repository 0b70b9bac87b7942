import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Replica } from '../../src/util/async/replica.ts';
import { ReplicaGroup, Replicas } from '../../src/util/async/replicas.ts';
import type { Code } from '../../src/util/errors.ts';
import { StoreError } from '../../src/util/errors.ts';
import { codeOf } from '../helpers/services.ts';

/** An answer, `undefined` for what is not there, or the failure of one. */
type Says = string | undefined | { code: Code };

/** Several that each say one thing, which may change. */
function scripted(awayMs: number, ...says: Says[]) {
  const asked: number[] = [];
  const answer = async (which: number) => {
    const said = says[which];
    if (typeof said === 'object') throw new StoreError(said.code, `${which} says so`);
    return said;
  };
  const members = says.map((_, i) => new Replica(`${i}`, () => answer(i)));
  const group = new ReplicaGroup(members);
  const replicas = new Replicas(
    group,
    says.map((_, i) => i),
    { awayMs },
  );
  const ask = (isSomewhere = false) =>
    replicas.ask(
      (which) => {
        asked.push(which);
        return answer(which);
      },
      { isSomewhere },
    );
  return { says, asked, ask, close: () => group.close() };
}

test.each<{ first: Says }>([
  { first: undefined },
  { first: { code: 'UNAVAILABLE' } },
  { first: { code: 'DATA_LOSS' } },
  { first: { code: 'INTERNAL' } },
  { first: { code: 'RESOURCE_EXHAUSTED' } },
  { first: { code: 'UNAUTHENTICATED' } },
  { first: { code: 'PERMISSION_DENIED' } },
  { first: { code: 'UNIMPLEMENTED' } },
])('of several stores, the next is asked where the first says $first', async ({ first }) => {
  const { ask, asked, close } = scripted(0, first, 'good');
  expect(await ask()).toBe('good');
  expect(asked).toEqual([0, 1]);
  close();
});

test('what nobody has is not there, whoever may be away; what is somewhere is waited for', async () => {
  const { ask, says, close } = scripted(5000, { code: 'UNAVAILABLE' }, undefined);
  expect(await ask()).toBeUndefined();
  const waiting = ask(true);
  await delay(200);
  says[0] = 'there after all';
  expect(await waiting).toBe('there after all');
  close();
});

test('a store that lies does not keep from waiting for the one that is away', async () => {
  const { ask, says, close } = scripted(5000, { code: 'DATA_LOSS' }, { code: 'UNAVAILABLE' });
  const waiting = ask();
  await delay(200);
  says[1] = 'good';
  expect(await waiting).toBe('good');
  close();
});

test.each<{ code: Code }>([{ code: 'RESOURCE_EXHAUSTED' }, { code: 'INTERNAL' }])(
  'what all fail with by $code may pass, and what is asked wrongly does not',
  async (failure) => {
    const { ask, says, asked, close } = scripted(5000, failure, failure);
    const waiting = ask();
    await delay(100);
    says[1] = 'good';
    expect(await waiting).toBe('good');
    says[0] = { code: 'INVALID_ARGUMENT' };
    asked.length = 0;
    expect(await codeOf(ask())).toBe('INVALID_ARGUMENT');
    expect(asked).toEqual([0]);
    close();
  },
);
