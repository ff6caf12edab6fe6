import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { rootCertificates } from 'node:tls';
import { foldCounts } from '../src/payments/fold.ts';
import { createClient } from './client.ts';
import { createTestDatabase } from './database.ts';
import { newTenant, spawnServer, type TestServer } from './fixtures.ts';
import { openServer } from './setup.ts';

const { server, me } = await openServer();

const origin = (): string => server.base_url.replace('/v1', '');
const gauge = async (name: string): Promise<number> => {
  const text = await (await fetch(`${origin()}/metrics`)).text();
  const [, value] = new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text) ?? [];
  assert.ok(value !== undefined, `${name} is a metric`);
  return Number(value);
};

test('threat 5: a route one msat above the cap fails, one at the cap is paid', async () => {
  await me.fund(1_000_000);
  const max_fee = { currency: 'btc', amount: 500 };
  const above = await me.outsideInvoice({ amount_msats: 10_000, fee_msats: 501 });
  const refused = await me.send({ payment_request: above.payment_request, max_fee });
  assert.equal(refused.error?.code, 'no_route');
  const at = await me.outsideInvoice({ amount_msats: 10_000, fee_msats: 500 });
  const paid = await me.send({ payment_request: at.payment_request, max_fee });
  assert.equal(paid.data.fees?.amount, 500);
  const captures = await server.db.query<{ over: boolean }>(
    `SELECT c.amount > h.amount AS over FROM ledger_events c
     JOIN ledger_events h ON h.event_id = c.event_id AND h.type = 'held' WHERE c.type = 'captured'`,
  );
  assert.ok(captures.length > 0 && captures.every(({ over }) => !over), 'never captured more than held');
});

test('threat 4 and 9: age of the oldest send in flight and drift of node against ledger are metrics', async () => {
  await me.fund(100_000);
  const { payment_request, payment_hash } = await me.outsideInvoice({
    amount_msats: 10_000,
    behavior: 'stuck',
  });
  const id = await me.accept(me.sendBody({ payment_request }));
  await new Promise((done) => setTimeout(done, 50));
  assert.ok((await gauge('coulomb_oldest_send_in_flight_seconds')) > 0);
  await me.until(id, ({ status }) => status === 'approved');
  await me.release(payment_hash, 'fail');
  assert.equal((await me.ended(id)).status, 'failed');
  assert.equal(await gauge('coulomb_node_drift_msats'), 0);
  assert.equal(await gauge('coulomb_oldest_send_in_flight_seconds'), 0);
});

test('threat 9: entries are never updated or deleted, and no wallet goes below its floor: the database refuses', async () => {
  await me.fund(1000);
  for (const text of [
    'UPDATE transfers SET amount = amount + 1',
    'DELETE FROM transfers',
    'TRUNCATE transfers',
    'UPDATE ledger_events SET amount = 0',
    'DELETE FROM ledger_events',
    'DELETE FROM payment_history',
    'UPDATE audit_log SET actor = $$x$$',
    `UPDATE accounts SET total = -1 WHERE kind = 'wallet'`,
    `UPDATE accounts SET held = total + "limit" + 1 WHERE kind = 'wallet'`,
    `INSERT INTO transfers (organization_id, from_account, to_account, currency, amount, kind)
       SELECT organization_id, id, id, 'btc', 1, 'x' FROM accounts LIMIT 1`,
  ]) {
    await assert.rejects(server.db.query(text), text);
  }
});

test('threat 15: a key or macaroon appears in no log line, error, metric, document or process title', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'coulomb-canary-'));
  const canary = `canary-macaroon-${randomUUID()}`;
  const node = { id: 'away', network: 'testnet3', kind: 'lnd', socket: '127.0.0.1:1' };
  const files = { cert_file: 'tls.cert', macaroon_file: 'node.macaroon' };
  writeFileSync(join(folder, files.cert_file), rootCertificates[0] ?? '');
  // Version 2, the canary, and the tail to which caveats are added.
  const tail = Buffer.concat([Buffer.from([0, 6, 32]), Buffer.from(canary).subarray(0, 32)]);
  writeFileSync(
    join(folder, files.macaroon_file),
    Buffer.concat([Buffer.from([2]), Buffer.from(canary), tail]),
  );
  writeFileSync(join(folder, 'nodes.json'), JSON.stringify([{ ...node, ...files }]));
  const spawned = await spawnServer(server.database_url, {
    COULOMB_LOG_LEVEL: 'trace',
    COULOMB_NODES_FILE: join(folder, 'nodes.json'),
  });
  const secret = server.credentials.api_key;
  try {
    const client = createClient(spawned.base_url, secret);
    const shown: string[] = [];
    for (const [method, path, raw_body] of [
      ['GET', `${me.base}/payments`, undefined],
      ['POST', `${me.base}/payments`, '{'],
      ['POST', `${me.base}/payments`, '{"id":"x"}'],
      ['GET', '/nowhere', undefined],
    ] as const) {
      shown.push((await client.request(method, path, raw_body === undefined ? {} : { raw_body })).text);
    }
    const base = spawned.base_url.replace('/v1', '');
    for (const path of ['/metrics', '/openapi.json', '/docs', '/readyz', '/healthz']) {
      shown.push(await (await fetch(base + path)).text());
    }
    const processes = spawnSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).stdout;
    assert.match(spawned.output(), /"node_id":"away"/, 'it was spoken to');
    const secrets = [
      secret,
      canary,
      ...(['hex', 'base64'] as const).map((as) => Buffer.from(canary).toString(as)),
    ];
    for (const text of [...shown, spawned.output(), processes]) {
      for (const each of secrets) assert.ok(!text.includes(each));
    }
    const password = new URL(server.database_url).password;
    for (const text of [...shown, spawned.output()]) assert.ok(password === '' || !text.includes(password));
  } finally {
    await spawned.kill('SIGTERM');
    rmSync(folder, { recursive: true, force: true });
  }
  const [stored] = await server.db.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM api_keys k WHERE k::text LIKE '%' || $1 || '%') AS found`,
    [secret],
  );
  assert.equal(stored?.found, false, 'only a hash is stored');
});

test('threat 16: a Host header changes no link', async () => {
  const { hostname, port } = new URL(server.base_url);
  const text = await new Promise<string>((done, fail) => {
    const sent = httpRequest(
      { hostname, port, path: '/openapi.json', headers: { host: 'evil.example' } },
      (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => done(body));
      },
    );
    sent.on('error', fail);
    sent.end();
  });
  assert.ok(!text.includes('evil.example'));
});

test('threat 17: payments that hang at the node slow neither reads nor other payments', async () => {
  await me.fund(10_000_000);
  const stuck = await Promise.all(
    Array.from({ length: 100 }, () => me.outsideInvoice({ amount_msats: 1000, behavior: 'stuck' })),
  );
  const hanging = await Promise.all(
    stuck.map(({ payment_request }) => me.accept(me.sendBody({ payment_request }))),
  );
  const { payment_request } = await me.outsideInvoice({ amount_msats: 1000 });
  assert.equal((await me.send({ payment_request })).status, 'completed');
  assert.equal((await me.receive()).status, 'receiving');
  for (const id of hanging) assert.equal((await me.get(id)).status, 'approved');
  assert.equal((await me.balance()).holds, 100);
});

test('metrics answer this machine and the bearer of the token, but nobody through a proxy', async () => {
  assert.equal((await fetch(`${origin()}/metrics`)).status, 200);
  const proxied = { headers: { 'x-forwarded-for': '203.0.113.9' } };
  assert.equal((await fetch(`${origin()}/metrics`, proxied)).status, 403);
});

/** Rows that everybody has read in this database so far; complete once the readers have disconnected. */
async function rowsRead(db: TestServer['db']): Promise<number> {
  const [row] = await db.query<{ rows: number }>(
    `SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::float8 AS rows FROM pg_stat_user_tables`,
  );
  return row?.rows ?? 0;
}

test('threat 18: what start reads does not grow with what is stored', async () => {
  const database = await createTestDatabase();
  const { db } = database;
  try {
    const tenant = await newTenant(db);
    const seed = readFileSync(new URL('../bench/seed.sql', import.meta.url), 'utf8');
    const scope = [
      tenant.organization_id,
      tenant.environment_id,
      tenant.line_of_credit_id,
      [tenant.wallet_id],
    ];
    const read: number[] = [];
    for (const [rows, made_before] of [
      [1000, 0],
      [10_000, 1000],
    ]) {
      await db.query(seed, [...scope, rows, 'sandbox', made_before]);
      // The server that stored them has counted them.
      await foldCounts(db, 5000);
      await db.query('ANALYZE');
      await db.query('SELECT pg_stat_force_next_flush()');
      const before_it = await rowsRead(db);
      const spawned = await spawnServer(database.url);
      await spawned.kill('SIGTERM');
      read.push((await rowsRead(db)) - before_it);
    }
    const [few = 0, many = 0] = read;
    assert.ok(many <= few + 500, `start read ${few} rows over 1,000 payments and ${many} over 11,000`);
  } finally {
    await database.drop();
  }
});
