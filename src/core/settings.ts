import { randomBytes } from 'node:crypto';
import type { Sql } from './db.ts';

async function secret(sql: Sql, key: string): Promise<Buffer> {
  await sql.query(
    'INSERT INTO settings (key, value) VALUES ($1, to_jsonb($2::text)) ON CONFLICT DO NOTHING',
    [key, randomBytes(32).toString('hex')],
  );
  const [row] = await sql.query<{ value: string }>('SELECT value FROM settings WHERE key = $1', [key]);
  if (!row) throw new Error(`the setting ${key} was not stored`);
  return Buffer.from(row.value, 'hex');
}

/** The key that signs list cursors; made once, shared by every process on the database. */
export const cursorSecret = (sql: Sql): Promise<Buffer> => secret(sql, 'cursor_secret');

/** What preimages of invoices are derived from; made once, shared by every process on the database. */
export const invoiceSecret = (sql: Sql): Promise<Buffer> => secret(sql, 'invoice_secret');
