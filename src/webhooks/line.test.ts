import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Line } from './line.ts';
import type { DueDelivery } from './queue.ts';

const receiver = {
  url: 'https://example.com/',
  secret: 's',
  previous_secret: null,
  allow_private: false,
  failing_since: null,
  failing_at: null,
};
const due = (id: string, payment_id: string | null = id): DueDelivery => ({
  organization_id: 'o',
  environment_id: 'e',
  webhook_id: 'w',
  id,
  horizon: 1n,
  seq: 1n,
  payload: null,
  payment_id,
  shard: 0,
  run_at: '2026-01-01T00:00:00.000000Z',
  round_attempts: 0,
  round_started_at: '2026-01-01T00:00:00.000000Z',
});

test('a line is complete only by an answer that nothing was missed behind', () => {
  const line = new Line('w', receiver);
  const asked = line.ask();
  line.doubt();
  line.answered(asked, true);
  assert.equal(line.complete, false, 'made while the database answered');
  line.answered(line.ask(), false);
  assert.equal(line.complete, false, 'there is more of it');
  line.answered(line.ask(), true);
  assert.equal(line.complete, true);
});

test('what ended since the database was asked is not taken from its answer again', () => {
  const line = new Line('w', receiver);
  line.add(due('a'));
  const first = line.take();
  assert.equal(first?.id, 'a');
  line.ask();
  line.forget('a');
  if (first) line.over(first);
  assert.equal(line.add(due('a')), true);
  assert.equal(line.take(), null);
  line.ask();
  line.add(due('a'));
  assert.equal(line.take()?.id, 'a', 'found by a later answer');
});

test('what waits and is open no more is dropped; what lies behind the answer stays', () => {
  const line = new Line('w', receiver);
  for (const id of ['a', 'b', 'c']) line.add(due(id));
  line.keepOpen([due('a'), due('c')], 10);
  assert.deepEqual(
    line.ahead().map(({ id }) => id),
    ['a', 'c'],
  );
  line.keepOpen([due('a')], 1);
  assert.deepEqual(
    line.ahead().map(({ id }) => id),
    ['a', 'c'],
  );
});

test("a payment's next delivery waits for the attempt before it, and others do not", () => {
  const line = new Line('w', receiver);
  for (const delivery of [due('a1', 'a'), due('a2', 'a'), due('b1', 'b')]) line.add(delivery);
  const first = line.take();
  assert.equal(first?.id, 'a1');
  assert.equal(line.take()?.id, 'b1');
  assert.equal(line.take(), null);
  assert.equal(first && line.over(first)?.id, 'a2');
});

test("what is left to be read again is not overtaken by its payment's next delivery that waits", () => {
  const line = new Line('w', receiver);
  for (const delivery of [due('a1', 'a'), due('b1', 'b'), due('a2', 'a')]) line.add(delivery);
  const first = line.take(1);
  assert.equal(first?.id, 'a1');
  const asked = line.ask();
  if (first) {
    line.leave(first);
    line.over(first);
  }
  line.answered(asked, true);
  assert.equal(line.complete, false);
  assert.equal(line.take(1)?.id, 'b1');
  // An answer of before is as good as one of after: it was not attempted.
  for (const delivery of [due('a1', 'a'), due('a2', 'a')]) line.add(delivery);
  assert.deepEqual(
    line.ahead().map(({ id }) => id),
    ['a1', 'a2'],
  );
});
