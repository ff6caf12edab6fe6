import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { sqlState } from '../src/core/db.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';

describe('a transaction that is finished with its last statements', () => {
  let place: TestDatabase;
  before(async () => {
    place = await createTestDatabase();
    await place.db.query('CREATE TABLE finished (id integer PRIMARY KEY)');
  });
  after(() => place.drop());
  const add = 'INSERT INTO finished VALUES ($1)';
  const stored = async () =>
    (await place.db.query<{ id: number }>('SELECT id FROM finished ORDER BY id')).map(({ id }) => id);

  test('writes all of them, and answers what they answer', async () => {
    const answer = await place.db.transaction((sql) =>
      sql.finish(async (last) => {
        const written = [last.query(add, [1]), last.query(`${add} RETURNING id`, [2])];
        return (await Promise.all(written)).flat();
      }),
    );
    assert.deepEqual(answer, [{ id: 2 }]);
    assert.deepEqual(await stored(), [1, 2]);
  });

  test('writes none of them when one fails, and says why', async () => {
    const failing = place.db.transaction((sql) =>
      sql.finish((last) => Promise.all([last.query(add, [3]), last.query(add, [1]), last.query(add, [4])])),
    );
    await assert.rejects(failing, (error) => sqlState(error) === '23505');
    assert.deepEqual(await stored(), [1, 2]);
  });

  test('fails with what went wrong first, whichever of its statements is heard first', async () => {
    const slowly = async (heard: Promise<unknown>) => {
      for (let turn = 0; turn < 5; turn += 1) await heard.catch(() => {});
      return heard;
    };
    const failing = place.db.transaction((sql) =>
      Promise.all([slowly(sql.query(add, [1])), sql.query(add, [6]), sql.query(add, [7])]),
    );
    await assert.rejects(failing, (error) => sqlState(error) === '23505');
    assert.deepEqual(await stored(), [1, 2]);
  });

  test('is a failure when a statement failed and nobody listened', async () => {
    const deaf = place.db.transaction((sql) =>
      sql.finish((last) => Promise.all([last.query(add, [3]), last.query(add, [1]).catch(() => {})])),
    );
    await assert.rejects(deaf, /rolled back/);
    assert.deepEqual(await stored(), [1, 2]);
  });

  test('refuses a statement that comes after its commit', async () => {
    const late = place.db.transaction((sql) =>
      sql.finish(async (last) => {
        await last.query('SELECT 1');
        await last.query(add, [5]);
      }),
    );
    await assert.rejects(late, /issued after the commit/);
    assert.deepEqual(await stored(), [1, 2]);
  });
});
