import { randomBytes } from 'node:crypto';
import type { Sql } from './db.ts';

/** The key that signs list cursors; made once, shared by every process on the database. */
export async function cursorSecret(sql: Sql): Promise<Buffer> {
  await sql.query(
    `INSERT INTO settings (key, value) VALUES ('cursor_secret', to_jsonb($1::text)) ON CONFLICT DO NOTHING`,
    [randomBytes(32).toString('hex')],
  );
  const [row] = await sql.query<{ value: string }>(`SELECT value FROM settings WHERE key = 'cursor_secret'`);
  if (!row) throw new Error('the cursor secret was not stored');
  return Buffer.from(row.value, 'hex');
}
