import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ownerOf } from './membership.ts';

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
