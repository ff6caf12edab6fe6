import { randomBytes } from 'node:crypto';
import type { Sql } from './db.ts';

/** A text that every process on the database shares; null when there is none under this key. */
export async function readSetting(sql: Sql, key: string): Promise<string | null> {
  const [row] = await sql.query<{ value: string }>('SELECT value FROM settings WHERE key = $1', [key]);
  return row?.value ?? null;
}

/** Stores a text unless there is one already; answers the one that is there now. */
export async function keepSetting(sql: Sql, key: string, value: string): Promise<string> {
  await sql.query(
    'INSERT INTO settings (key, value) VALUES ($1, to_jsonb($2::text)) ON CONFLICT DO NOTHING',
    [key, value],
  );
  const kept = await readSetting(sql, key);
  if (kept === null) throw new Error(`the setting ${key} was not stored`);
  return kept;
}

const secret = async (sql: Sql, key: string): Promise<Buffer> =>
  Buffer.from(await keepSetting(sql, key, randomBytes(32).toString('hex')), 'hex');

/** The key that signs list cursors; made once, shared by every process on the database. */
export const cursorSecret = (sql: Sql): Promise<Buffer> => secret(sql, 'cursor_secret');

/** What preimages of invoices are derived from; made once, shared by every process on the database. */
export const invoiceSecret = (sql: Sql): Promise<Buffer> => secret(sql, 'invoice_secret');
