import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { ApiError } from './errors.ts';
import { bindingOf, readCursor, writeCursor } from './cursor.ts';

const secret = randomBytes(32);
const position = { value: '2026-01-01T00:00:00.000001Z', id: '6f1c4a52-7a1b-4c4e-9a60-3f6d6a7f1c11' };
const bound_to = bindingOf(['org', 'env', { sort_key: 'created_at' }]);

test('a cursor gives back the position it was made for', () => {
  assert.deepEqual(readCursor(secret, bound_to, writeCursor(secret, bound_to, position)), position);
});

test('a cursor used with other filters is refused', () => {
  const cursor = writeCursor(secret, bound_to, position);
  const other = bindingOf(['org', 'env', { sort_key: 'updated_at' }]);
  assert.throws(
    () => readCursor(secret, other, cursor),
    (error) => error instanceof ApiError && error.type === 'invalid_cursor',
  );
});

test('any change to a cursor is refused', () => {
  const cursor = writeCursor(secret, bound_to, position);
  fc.assert(
    fc.property(fc.nat(cursor.length - 1), fc.string({ minLength: 1, maxLength: 1 }), (index, letter) => {
      fc.pre(cursor[index] !== letter);
      const changed = cursor.slice(0, index) + letter + cursor.slice(index + 1);
      assert.throws(() => readCursor(secret, bound_to, changed), { type: 'invalid_cursor' });
    }),
  );
});
