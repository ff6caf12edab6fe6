import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { pino } from 'pino';
import { systemClock } from '../src/core/clock.ts';
import type { LightningNode } from '../src/lightning/node.ts';
import { createNodeBooks } from '../src/nodes/books.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';

// What a race between two servers does to a node's books; that they are right at all is tested on a real network.
let database: TestDatabase;
before(async () => {
  database = await createTestDatabase();
});
after(() => database.drop());

const FEE_MSATS = 7n;

/** A node that earns a fee with each of so many forwards, and whose lists are read by that many at the same time. */
function forwarder() {
  const state = { forwards: 0, readers: 1 };
  let waiting: (() => void)[] = [];
  const node = {
    id: 'forwarder',
    network: 'testnet',
    worth: () => Promise.resolve({ channels_msats: 1_000_000n, chain_msats: 0n }),
    async books(_since: number, from: number) {
      const forwarded = {
        fees_msats: BigInt(state.forwards - from) * FEE_MSATS,
        forward_index: state.forwards,
      };
      await new Promise<void>((read) => {
        waiting.push(read);
        if (waiting.length < state.readers) return;
        for (const go of waiting) go();
        waiting = [];
        // Whoever was overtaken looks again by itself.
        state.readers = 1;
      });
      return { tip_height: 100, transactions: [], opened: [], closing: [], closed: [], forwarded };
    },
  };
  return { state, node: node as unknown as LightningNode };
}

test('a look that another one overtook looks again: what it saw is booked when it is over', async () => {
  const { db } = database;
  const { state, node } = forwarder();
  const behind = { ...node, id: 'overtaken' } as LightningNode;
  const books = createNodeBooks({ db, clock: systemClock, log: pino({ level: 'silent' }) });
  await db.query('INSERT INTO node_state (node_id, payment_index) VALUES ($1, 0)', [behind.id]);
  await books.book(behind);
  state.readers = 2;
  state.forwards = 2;
  const early = books.book(behind);
  state.forwards = 5;
  await Promise.all([early, books.book(behind)]);
  const [row] = await db.query<{ sum: bigint }>(
    `SELECT sum(channels_msats)::bigint AS sum FROM node_bookings
     WHERE node_id = $1 AND key LIKE 'forwards:%'`,
    [behind.id],
  );
  assert.equal(row?.sum, 5n * FEE_MSATS);
});

test('threat 9: forwards that several servers read at once are earned once', async () => {
  const { db } = database;
  const { state, node } = forwarder();
  const books = createNodeBooks({ db, clock: systemClock, log: pino({ level: 'silent' }) });
  await db.query('INSERT INTO node_state (node_id, payment_index) VALUES ($1, 0)', [node.id]);
  await books.book(node);
  for (const forwards of [2, 5]) {
    state.forwards = forwards;
    state.readers = 3;
    await Promise.all([books.book(node), books.book(node), books.book(node)]);
    const [row] = await db.query<{ sum: bigint }>(
      `SELECT sum(channels_msats)::bigint AS sum FROM node_bookings WHERE node_id = $1 AND key LIKE 'forwards:%'`,
      [node.id],
    );
    assert.equal(row?.sum, BigInt(forwards) * FEE_MSATS);
  }
});
