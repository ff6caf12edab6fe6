import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_BIGINT, nodeAccountId } from './accounts.ts';

const EXISTING = '41f1ef68-e7fd-8dc7-ac0c-aebed585b783';
const ORGANIZATION = '11111111-1111-4111-8111-111111111111';

test('the id of an account never changes: rows that exist carry it', () => {
  const id = () => nodeAccountId(ORGANIZATION, 'sandbox', 'channels', 'btc');
  // The second one comes from memory.
  assert.deepEqual([id(), id()], [EXISTING, EXISTING]);
});

test('every organization, node, kind and currency has an account of its own, named by a UUID', () => {
  const ids = ['a', 'b'].flatMap((organization) =>
    ['x', 'y'].flatMap((node) =>
      (['channels', 'chain'] as const).flatMap((kind) =>
        ['btc', 'usd'].map((currency) => nodeAccountId(organization, node, kind, currency)),
      ),
    ),
  );
  assert.equal(new Set(ids).size, 16);
  for (const id of ids)
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test('an account holds what a signed integer of 64 bits does', () => {
  assert.equal(BigInt.asIntN(64, MAX_BIGINT), MAX_BIGINT);
  assert.ok(BigInt.asIntN(64, MAX_BIGINT + 1n) < 0n);
});
