import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type pg from 'pg';
import { createTestDatabase } from '../../test/database.ts';
import { createLog } from '../core/log.ts';
import { SHARDS } from './deliveries.ts';
import { Membership, ownerOf } from './membership.ts';

test('every shard has one owner, whatever the order in which servers are seen, and one that leaves moves only its own', () => {
  const servers = fc.uniqueArray(fc.integer({ min: 1, max: 2 ** 31 - 1 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(servers, fc.integer({ min: 0, max: 15 }), (all, shard) => {
      const owner = ownerOf(shard, all);
      assert.ok(owner !== undefined && all.includes(owner));
      assert.equal(ownerOf(shard, [...all].reverse()), owner);
      for (const gone of all) {
        const rest = all.filter((server) => server !== gone);
        if (gone !== owner) assert.equal(ownerOf(shard, rest), owner);
      }
    }),
  );
});

test('a server whose lock is gone without a word sees that and joins again', async () => {
  const database = await createTestDatabase();
  const connections: pg.Client[] = [];
  const membership = new Membership({
    db: {
      ...database.db,
      async connect(lost) {
        const client = await database.db.connect(lost);
        connections.push(client);
        return client;
      },
    },
    log: createLog('fatal'),
  });
  await membership.start(() => {});
  assert.equal(membership.shards().length, SHARDS);
  // As after a failover: the connection looks alive here, and what it held is not known any more.
  await connections[0]?.query('SELECT pg_advisory_unlock_all()');
  const give_up_at = Date.now() + 20_000;
  while (connections.length < 2 || membership.shards().length < SHARDS) {
    assert.ok(Date.now() < give_up_at, 'it sends again');
    await new Promise((done) => setTimeout(done, 50));
  }
  await membership.stop();
  await database.drop();
});

test('a connection whose other end is gone is noticed by both ends', async () => {
  const database = await createTestDatabase();
  const rows = await database.db.query<{ name: string }>(
    `SELECT name FROM pg_settings WHERE name LIKE 'tcp_keepalives%' AND source = 'client' ORDER BY name`,
  );
  assert.deepEqual(
    rows.map(({ name }) => name),
    ['tcp_keepalives_count', 'tcp_keepalives_idle', 'tcp_keepalives_interval'],
  );
  await database.drop();
});
