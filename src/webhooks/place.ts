import { ApiError } from '../core/errors.ts';
import { END_OF_HORIZON, isAfter, READABLE_BELOW, type EventPlace } from '../core/events.ts';
import type { Sql } from '../core/db.ts';

// Places in the order of events, as clients hold them. One is a promise: whoever comes back with it hears all that came
// behind it, or is told that something of that is gone. It names no environment: what is read from it on is the caller's.

/** A place, in the epoch in which it was given out. */
export interface DatedPlace extends EventPlace {
  epoch: number;
}

/** The id of an event, or of a place between events: opaque to clients. */
export const placeId = ({ horizon, seq }: EventPlace, epoch: number): string =>
  Buffer.from(
    [horizon, seq, ...(epoch > 0 ? [epoch] : [])].map((part) => part.toString(36)).join('.'),
  ).toString('base64url');

const fromBase36 = (digits: string): bigint => {
  let value = 0n;
  for (const digit of digits) value = value * 36n + BigInt(parseInt(digit, 36));
  return value;
};

/** The place that an id names; `invalid_parameter` for anything that was never one. */
export function placeOf(id: string): DatedPlace {
  const [, horizon, seq, epoch] =
    /^([0-9a-z]{1,13})\.([0-9a-z]{1,13})(?:\.([0-9a-z]{1,6}))?$/.exec(
      Buffer.from(id, 'base64url').toString(),
    ) ?? [];
  const place = {
    horizon: fromBase36(horizon ?? ''),
    seq: fromBase36(seq ?? ''),
    epoch: Number(fromBase36(epoch ?? '')),
  };
  if (
    horizon === undefined ||
    place.horizon >= 2n ** 63n ||
    place.seq >= 2n ** 63n ||
    placeId(place, place.epoch) !== id
  ) {
    throw new ApiError('invalid_parameter', 'after: not the id of an event');
  }
  return place;
}

export const eventsRemoved = (): ApiError =>
  new ApiError('events_removed', 'events after this one were removed: start again, and read the payments');

/** Refuses a place behind which something was removed: 410, never a silent skip. */
export async function refuseRemoved(sql: Sql, after: DatedPlace): Promise<void> {
  const [removed] = await sql.query<DatedPlace & { beyond: boolean }>(
    `SELECT horizon, seq, epoch, $1::bigint >= ${READABLE_BELOW} AS beyond FROM event_places WHERE name = 'removed'`,
    [after.horizon],
    'removed events',
  );
  // Another epoch, or beyond all that can be read: a place of before the database was restored into another cluster.
  if (removed && (removed.epoch !== after.epoch || removed.beyond || isAfter(removed, after))) {
    throw eventsRemoved();
  }
}

/** Where the next event will be: behind all that can be read now. */
export async function placeNow(sql: Sql): Promise<DatedPlace> {
  const [row] = await sql.query<{ bound: bigint; epoch: number }>(
    `SELECT ${READABLE_BELOW} AS bound, epoch FROM event_places WHERE name = 'removed'`,
    [],
    'place now',
  );
  return { horizon: (row?.bound ?? 1n) - 1n, seq: END_OF_HORIZON, epoch: row?.epoch ?? 0 };
}
