import { randomUUID } from 'node:crypto';
import { hashKey } from '../src/core/auth.ts';
import type { Database } from '../src/core/db.ts';
import { newApiKey } from '../src/core/ids.ts';

export interface Tenant {
  organization_id: string;
  environment_id: string;
  api_key: string;
}

export interface TenantOptions {
  /** An organization that exists gets another environment. */
  organization_id?: string;
  /** With an organization, an environment that exists gets another key. */
  environment_id?: string;
  kind?: 'staging' | 'production';
  permissions?: string[];
  features?: string[];
}

/** Another organization, environment or key beside those that the fixture made. */
export async function newTenant(db: Database, options: TenantOptions = {}): Promise<Tenant> {
  const { organization_id = randomUUID(), environment_id = randomUUID(), kind = 'staging' } = options;
  if (options.organization_id === undefined) {
    await db.query('INSERT INTO organizations (id, name, features) VALUES ($1, $2, $3)', [
      organization_id,
      'another organization',
      options.features ?? ['payments', 'onchain', 'bip21'],
    ]);
  }
  if (options.environment_id === undefined) {
    await db.query('INSERT INTO environments (organization_id, id, kind, name) VALUES ($1, $2, $3, $4)', [
      organization_id,
      environment_id,
      kind,
      `another ${kind} environment`,
    ]);
  }
  const api_key = newApiKey();
  await db.query(
    `INSERT INTO api_keys (organization_id, id, environment_id, name, secret_hash, permissions)
     VALUES ($1, $2, $3, 'test', $4, $5)`,
    [organization_id, randomUUID(), environment_id, hashKey(api_key), options.permissions ?? ['WRITE', 'BILLING']],
  );
  return { organization_id, environment_id, api_key };
}
