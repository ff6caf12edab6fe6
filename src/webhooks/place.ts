import { ApiError } from '../core/errors.ts';
import { isAfter, READABLE_BELOW, type EventPlace } from '../core/events.ts';
import type { Sql } from '../core/db.ts';

/** The id of an event, or of a place between events: opaque to clients. */
export const placeId = ({ horizon, seq }: EventPlace): string =>
  Buffer.from(`${horizon.toString(36)}.${seq.toString(36)}`).toString('base64url');

const fromBase36 = (digits: string): bigint => {
  let value = 0n;
  for (const digit of digits) value = value * 36n + BigInt(parseInt(digit, 36));
  return value;
};

/** The place that an id names; `invalid_parameter` for anything that was never one. */
export function placeOf(id: string): EventPlace {
  const [, horizon, seq] =
    /^([0-9a-z]{1,13})\.([0-9a-z]{1,13})$/.exec(Buffer.from(id, 'base64url').toString()) ?? [];
  const place = { horizon: fromBase36(horizon ?? ''), seq: fromBase36(seq ?? '') };
  if (
    horizon === undefined ||
    place.horizon >= 2n ** 63n ||
    place.seq >= 2n ** 63n ||
    placeId(place) !== id
  ) {
    throw new ApiError('invalid_parameter', 'after: not the id of an event');
  }
  return place;
}

export const eventsRemoved = (): ApiError =>
  new ApiError('events_removed', 'events after this one were removed: start again, and read the payments');

/** Refuses a place behind which something was removed: 410, never a silent skip. */
export async function refuseRemoved(sql: Sql, after: EventPlace): Promise<void> {
  const [removed] = await sql.query<EventPlace & { beyond: boolean }>(
    `SELECT horizon, seq, $1::bigint >= ${READABLE_BELOW} AS beyond FROM event_places WHERE name = 'removed'`,
    [after.horizon],
    'removed events',
  );
  // Beyond all that can be read: a place of before the database was restored into another cluster.
  if (removed && (removed.beyond || isAfter(removed, after))) {
    throw eventsRemoved();
  }
}
