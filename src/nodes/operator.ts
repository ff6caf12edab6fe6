import type { Sql } from '../core/db.ts';
import { newId } from '../core/ids.ts';
import { keepSetting, readSetting } from '../core/settings.ts';

const KEY = 'operator_organization';

/** The operator's own organization, made when a node is first registered: it owns what no user owns. */
export async function operatorOrganization(sql: Sql): Promise<string> {
  const known = await readSetting(sql, KEY);
  if (known !== null) return known;
  const id = await keepSetting(sql, KEY, newId());
  await sql.query(
    `INSERT INTO organizations (id, name, features) VALUES ($1, 'Operator', '{}') ON CONFLICT DO NOTHING`,
    [id],
  );
  return id;
}
