import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { ApiError } from './errors.ts';

/** Where a page ended: the last row's sort value and id. */
export interface Position {
  value: string;
  id: string;
}

const MAC_BYTES = 16;

const mac = (secret: Buffer, bound_to: string, payload: string): Buffer =>
  createHmac('sha256', secret).update(bound_to).update('\0').update(payload).digest().subarray(0, MAC_BYTES);

/** What a cursor is bound to: every filter and the sort, so that another query cannot use it. */
export const bindingOf = (query: object): string =>
  createHash('sha256').update(JSON.stringify(query)).digest('base64url');

/** An opaque cursor for a position, signed together with what it is bound to. */
export function writeCursor(secret: Buffer, bound_to: string, position: Position): string {
  const payload = JSON.stringify([position.value, position.id]);
  return Buffer.concat([mac(secret, bound_to, payload), Buffer.from(payload)]).toString('base64url');
}

/** The position of a cursor; `invalid_cursor` for one that was changed or made for another query. */
export function readCursor(secret: Buffer, bound_to: string, cursor: string): Position {
  const bytes = Buffer.from(cursor, 'base64url');
  const payload = bytes.subarray(MAC_BYTES).toString();
  const given = bytes.subarray(0, MAC_BYTES);
  // Re-encoding refuses a cursor with stray characters, which decoding would skip.
  if (
    given.length !== MAC_BYTES ||
    bytes.toString('base64url') !== cursor ||
    !timingSafeEqual(given, mac(secret, bound_to, payload))
  ) {
    throw new ApiError('invalid_cursor', 'the cursor does not belong to this query', {
      context: {
        field: 'cursor',
        recovery: 'start again without a cursor, with the same filters and sort on every page',
      },
    });
  }
  const [value, id] = JSON.parse(payload) as [string, string];
  return { value, id };
}
