import { allowWholeTables, type Database } from '../core/db.ts';
import { END_OF_HORIZON } from '../core/events.ts';

// Two horizons below every transaction: what was delivered before the restore, and what still is to be.
const DONE = 0;
const TO_DO = 1;

export const COUNTED_ANEW = 'events were counted anew: the database was restored into another cluster';

/**
 * A database restored into another cluster counts its transactions anew, and the horizons of before lie ahead of them:
 * nothing would be read until they are reached. Their order by number is kept, which is that of each payment; what was
 * not a delivery yet becomes one, also what was written since the restore: its numbers are above all that were restored.
 * Places that clients hold from before are refused (place.ts). Answers whether it did.
 */
export const comeDown = (db: Database): Promise<boolean> =>
  db.transaction(async (sql) => {
    const [place] = await sql.query<{ horizon: bigint; seq: bigint; ahead: boolean }>(
      `SELECT horizon, seq, greatest(horizon, (SELECT max(horizon) FROM events)) > pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS ahead
       FROM event_places WHERE name = 'deliveries' FOR UPDATE`,
    );
    if (!place?.ahead) return false;
    await allowWholeTables(sql);
    // Every event is written: how long that takes is a matter of how many there are, and nothing goes on before.
    await sql.query('SET LOCAL statement_timeout = 0');
    await sql.query(
      `UPDATE events e SET horizon = CASE WHEN (e.horizon, e.seq) > ($1, $2) OR e.seq > before.seq THEN ${TO_DO} ELSE ${DONE} END
       FROM (SELECT greatest(
           (SELECT max(seq) FROM events WHERE horizon > pg_snapshot_xmax(pg_current_snapshot())::text::bigint),
           (SELECT max(seq) FROM webhook_deliveries)) AS seq) before`,
      [place.horizon, place.seq],
    );
    // A delivery is made in the transaction that passes its event.
    await sql.query(`UPDATE webhook_deliveries SET horizon = ${DONE} WHERE horizon IS NOT NULL`);
    await sql.query(`UPDATE webhooks SET since = least(since, ${TO_DO})`);
    await sql.query(
      `UPDATE event_places SET epoch = epoch + 1, horizon = ${DONE}, seq = CASE name WHEN 'deliveries' THEN $1::bigint ELSE 0 END`,
      [END_OF_HORIZON],
    );
    return true;
  });
