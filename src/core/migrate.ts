import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import type { Database, Sql } from './db.ts';

const FOLDER = new URL('../../migrations/', import.meta.url);
const LOCK = 7_001_000;

interface Migration {
  name: string;
  text: string;
  checksum: string;
}

async function readMigrations(): Promise<Migration[]> {
  const names = (await readdir(FOLDER)).filter((name) => /^\d{4}_\w+\.sql$/.test(name)).sort();
  return Promise.all(
    names.map(async (name) => {
      const text = await readFile(new URL(name, FOLDER), 'utf8');
      return { name, text, checksum: createHash('sha256').update(text).digest('hex') };
    }),
  );
}

const applied = async (sql: Sql): Promise<Map<string, string>> => {
  const rows = await sql.query<{ name: string; checksum: string }>('SELECT name, checksum FROM migrations');
  return new Map(rows.map(({ name, checksum }) => [name, checksum]));
};

/**
 * Applies what is missing, in order, each in its own transaction; answers what it applied. Throws when one was changed after
 * it was applied: the database is then not what this code takes it for.
 */
export async function migrate(db: Database): Promise<string[]> {
  const client = await db.connect();
  try {
    // One process at a time; the lock goes with the connection.
    await client.query('SELECT pg_advisory_lock($1)', [LOCK]);
    await db.query(
      `CREATE TABLE IF NOT EXISTS migrations
         (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`,
    );
    const done = await applied(db);
    const fresh: string[] = [];
    for (const { name, text, checksum } of await readMigrations()) {
      const known = done.get(name);
      if (known === checksum) continue;
      if (known !== undefined) throw new Error(`migration ${name} was changed after it was applied`);
      await db.transaction(async (sql) => {
        await sql.query(text);
        await sql.query('INSERT INTO migrations (name, checksum) VALUES ($1, $2)', [name, checksum]);
      });
      fresh.push(name);
    }
    return fresh;
  } finally {
    await client.end();
  }
}

/** Migrations that this code needs and the database lacks. */
export async function pendingMigrations(sql: Sql): Promise<string[]> {
  const done = await applied(sql);
  return (await readMigrations()).map(({ name }) => name).filter((name) => !done.has(name));
}
