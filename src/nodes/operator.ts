import type { Sql } from '../core/db.ts';
import { newId } from '../core/ids.ts';

const KEY = 'operator_organization';

/** The operator's own organization, made when a node is first registered: it owns what no user owns. */
export async function operatorOrganization(sql: Sql): Promise<string> {
  const read = async (): Promise<string | undefined> => {
    const [row] = await sql.query<{ value: string }>('SELECT value FROM settings WHERE key = $1', [KEY]);
    return row?.value;
  };
  const known = await read();
  if (known !== undefined) return known;
  await sql.query(
    'INSERT INTO settings (key, value) VALUES ($1, to_jsonb($2::text)) ON CONFLICT DO NOTHING',
    [KEY, newId()],
  );
  const id = (await read()) ?? '';
  await sql.query(
    `INSERT INTO organizations (id, name, features) VALUES ($1, 'Operator', '{}') ON CONFLICT DO NOTHING`,
    [id],
  );
  return id;
}
