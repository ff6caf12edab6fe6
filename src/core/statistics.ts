import type { Database } from './db.ts';

// Pages by which a table must have outgrown its statistics, as a factor.
const GROWTH = 3;

/**
 * Analyzes tables that outgrew their statistics. Prepared statements keep the plan of an almost empty table
 * until that happens, and autovacuum looks only once a minute: too late for a database that has just begun.
 */
export async function analyzeGrown(db: Database): Promise<void> {
  const grown = await db.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class
     WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
       AND pg_relation_size(oid) > 8192::bigint * ${GROWTH} * greatest(relpages, 1)`,
  );
  for (const { name } of grown) await db.query(`ANALYZE "${name}"`);
}
