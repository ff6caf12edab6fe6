import assert from 'node:assert/strict';
import { ApiError, type ErrorExtra, type ErrorType } from '../src/core/errors.ts';

/** Fails unless a rule refuses with exactly this type, code and context; the detail has to say as much. */
export function refuses(
  work: () => unknown,
  type: ErrorType,
  detail: RegExp,
  extra: Pick<ErrorExtra, 'code' | 'context'> = {},
): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof ApiError, String(error));
    const { code, context } = error;
    assert.deepEqual(
      { type: error.type, code, context },
      { code: undefined, context: undefined, ...extra, type },
    );
    assert.match(error.message, detail);
    return true;
  });
}
