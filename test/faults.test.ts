import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { mkdtempSync, chmodSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadConfig } from '../src/config.ts';
import { openDatabase } from '../src/core/db.ts';
import { startEmbedded } from '../src/core/embedded.ts';
import { createLog } from '../src/core/log.ts';
import { nodeBalances } from '../src/ledger/rollup.ts';
import { systemClock } from '../src/core/clock.ts';
import { createSandboxNode } from '../src/lightning/sandbox.ts';
import { startServer } from '../src/server.ts';
import { actor } from './actor.ts';
import { createClient, type Client } from './client.ts';
import { auditClean, newTenant, spawnServer, type ServerProcess, type TestServer } from './fixtures.ts';
import { openServer } from './setup.ts';

const { server } = await openServer();

const LIVE = ['generating', 'approved', 'sending'];
const WAIT_MS = 60_000;

/** Worth of the sandbox node minus the ledger, once nothing moves; msats. */
async function drift(db: TestServer['db']): Promise<bigint> {
  const log = createLog('fatal');
  const node = await createSandboxNode({ db, clock: systemClock, log, block_seconds: 0 });
  const worth = await node.worth();
  const booked = await nodeBalances(db, node.id);
  return worth.channels_msats + worth.chain_msats - booked.channels_msats - booked.chain_msats;
}

/** The same requests through another server process. */
function through(spawned: ServerProcess, api_key: string): TestServer {
  return { ...server, base_url: spawned.base_url, client: createClient(spawned.base_url, api_key) };
}

test('threat 2: of 100 parallel sends of the whole balance, over two server processes, exactly one is accepted', async () => {
  const tenant = await newTenant(server.db);
  const own = { ...server, credentials: tenant, client: createClient(server.base_url, tenant.api_key) };
  const second = await spawnServer(server.database_url);
  try {
    const me = actor(own);
    const other = actor({ ...through(second, tenant.api_key), credentials: tenant });
    await me.fund(1_000_000);
    const invoices = await Promise.all(
      Array.from({ length: 100 }, () => me.outsideInvoice({ amount_msats: 1_000_000, behavior: 'stuck' })),
    );
    const no_fee = { currency: 'btc', amount: 0 };
    const ids = await Promise.all(
      invoices.map(({ payment_request }, index) => {
        const through_one = index % 2 === 0 ? me : other;
        return through_one.accept(through_one.sendBody({ payment_request, max_fee: no_fee }));
      }),
    );
    const shown = await Promise.all(ids.map((id) => me.get(id)));
    assert.equal(shown.filter(({ status }) => status === 'approved').length, 1);
    assert.equal(shown.filter(({ error }) => error?.code === 'insufficient_funds').length, 99);
    assert.deepEqual(await me.balance(), { available: 0, total: 1_000_000, holds: 1 });
  } finally {
    await second.kill('SIGTERM');
  }
  await auditClean(server.db);
});

test('threat 7: an invoice paid inside and from outside at once is paid exactly once', async () => {
  const me = actor(server);
  await me.fund(1_000_000);
  for (let round = 0; round < 20; round += 1) {
    const other = await me.newWallet();
    const receive = await me.receive({ wallet_id: other, amount: { currency: 'btc', amount: 10_000 } });
    const { payment_request } = receive.data;
    const [inside, outside] = await Promise.all([
      me.send({ payment_request }),
      me.sandbox<{ status: string }>('payments', { payment_request }),
    ]);
    assert.equal((await me.ended(receive.id)).status, 'completed');
    assert.notEqual(
      inside.status === 'completed',
      outside.status === 'settled',
      'exactly one of the two paid',
    );
    assert.equal((await me.balance(other)).total, 10_000);
  }
  await auditClean(server.db);
  assert.equal(await drift(server.db), 0n);
});

/** One random payment; its id once the server said 202, null when it did not answer. */
async function somePayment(
  client: Client,
  me: ReturnType<typeof actor>,
  invoices: string[],
): Promise<string | null> {
  const { wallet_id } = server.credentials;
  const kind = randomInt(3);
  const id = randomUUID();
  const payment_request = kind === 0 ? undefined : invoices.pop();
  const body =
    payment_request === undefined
      ? {
          id,
          wallet_id,
          payment_kind: randomInt(4) === 0 ? 'bip21' : 'bolt11',
          amount: { currency: 'btc', amount: 2_000_000 },
        }
      : { ...me.sendBody({ payment_request }), id };
  const answer = await client.request('POST', `${me.base}/payments`, { body }).catch(() => null);
  return answer?.status === 202 ? id : null;
}

async function prepareInvoices(me: ReturnType<typeof actor>, count: number): Promise<string[]> {
  const other = await me.newWallet();
  const made: string[] = [];
  for (let index = 0; index < count; index += 1) {
    if (index % 2 === 0) {
      const behavior = ['settle', 'settle', 'fail', 'unknown'][randomInt(4)];
      made.push(
        (await me.outsideInvoice({ amount_msats: 1000, fee_msats: 3, behavior, delay_ms: randomInt(50) }))
          .payment_request,
      );
    } else {
      const receive = await me.receive({ wallet_id: other, amount: { currency: 'btc', amount: 1000 } });
      made.push(receive.data.payment_request ?? '');
    }
  }
  return made;
}

/** Waits until nothing is under way, and holds every accepted payment to its end. */
async function allEnded(me: ReturnType<typeof actor>, accepted: readonly string[]): Promise<void> {
  const give_up_at = Date.now() + WAIT_MS;
  for (const id of accepted) {
    for (;;) {
      const { status, direction } = await me.get(id);
      if (!LIVE.includes(status)) {
        assert.ok(
          direction === 'receive' ? status === 'receiving' : ['completed', 'failed'].includes(status),
          status,
        );
        break;
      }
      assert.ok(Date.now() < give_up_at, `payment ${id} stays ${status}`);
      await new Promise((done) => setTimeout(done, 50));
    }
  }
}

const ROUNDS = Number(process.env['COULOMB_KILL_ROUNDS'] ?? 6);

test('threat 4: a server killed -9 at any moment loses nothing that it accepted, and pays nothing twice', async () => {
  const me = actor(server);
  await me.fund(500_000_000);
  const accepted: string[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const invoices = await prepareInvoices(me, 40);
    const victim = await spawnServer(server.database_url);
    const client = createClient(victim.base_url, server.credentials.api_key);
    // After a number of answers, and then at any step of what they began.
    let left = randomInt(1, 50);
    let killed: Promise<void> | undefined;
    const answers = await Promise.all(
      Array.from({ length: 60 }, async () => {
        const id = await somePayment(client, me, invoices);
        left -= 1;
        if (left === 0)
          killed = new Promise((done) => setTimeout(done, randomInt(60))).then(() => victim.kill('SIGKILL'));
        return id;
      }),
    );
    await killed;
    accepted.push(...answers.filter((id) => id !== null));
  }
  assert.ok(accepted.length >= ROUNDS, `${accepted.length} payments were accepted before the kills`);
  await allEnded(me, accepted);
  await auditClean(server.db);
  assert.equal(await drift(server.db), 0n);
});

test('PostgreSQL killed -9 under load: 503 with a reference meanwhile, then everything goes on', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'coulomb-fault-'));
  chmodSync(folder, 0o711);
  const log = createLog('fatal');
  const embedded = await startEmbedded(folder, log);
  const config = loadConfig({
    COULOMB_PORT: '0',
    COULOMB_SANDBOX_BLOCK_SECONDS: '0',
    COULOMB_LOG_LEVEL: 'fatal',
  });
  const victim = await startServer(config, embedded.url, log);
  const db = openDatabase({ url: embedded.url, ...config.database });
  try {
    const credentials = await newTenant(db);
    const base_url = `${victim.url}/v1`;
    const client = createClient(base_url, credentials.api_key);
    const me = actor({ ...server, base_url, client, credentials, db });
    await me.fund(100_000_000);
    const pid = Number(readFileSync(join(embedded.folder, 'postmaster.pid'), 'utf8').split('\n')[0]);
    const accepted: string[] = [];
    const refusals: number[] = [];
    const give_up_at = Date.now() + WAIT_MS;
    let recovered = 0;
    process.kill(pid, 'SIGKILL');
    while (recovered < 20) {
      assert.ok(Date.now() < give_up_at, 'the server did not recover');
      const body = {
        id: randomUUID(),
        wallet_id: credentials.wallet_id,
        payment_kind: 'bolt11',
        amount_msats: 1000,
      };
      const answer = await client.request('POST', `${me.base}/payments`, { body });
      if (answer.status === 202) {
        accepted.push(body.id);
        recovered += 1;
      } else {
        assert.equal(answer.status, 503, answer.text);
        assert.ok(answer.headers.get('retry-after'), 'retry-after');
        assert.ok(answer.text.includes(answer.headers.get('x-request-id') ?? 'none'), 'the reference');
        refusals.push(answer.status);
      }
    }
    assert.ok(refusals.length > 0, 'the database was away for a while');
    await allEnded(me, accepted);
    await auditClean(db);
  } finally {
    await victim.stop();
    await db.close();
    await embedded.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});

test('threat 3: a payment whose answer never comes stays in flight with its hold, and settles when the node is asked', async () => {
  const me = actor(server);
  await me.fund(100_000);
  const { payment_request, payment_hash } = await me.outsideInvoice({
    amount_msats: 10_000,
    behavior: 'unknown',
  });
  const id = await me.accept(me.sendBody({ payment_request }));
  await me.until(id, ({ status }) => status === 'approved');
  const again = await me.send({ payment_request });
  assert.equal(again.error?.code, 'invalid_bolt11_invoice', 'no second send of the hash');
  await me.release(payment_hash, 'settle');
  assert.equal((await me.ended(id)).status, 'completed');
});
