import assert from 'node:assert/strict';
import { createHash, randomBytes, randomInt, randomUUID } from 'node:crypto';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { resolveByOperator } from '../../src/admin/operator.ts';
import { actor } from '../actor.ts';
import { createClient } from '../client.ts';
import { auditClean, newTenant, type TestServer } from '../fixtures.ts';
import { driftOf, ready, realActor, startPlace } from './fixture.ts';
import { startNetwork, tools, type RegtestNetwork } from './network.ts';
import { eventually } from './ports.ts';

const found = await tools;
const skip = 'missing' in found ? found.missing : false;

let net: RegtestNetwork;
let place: Awaited<ReturnType<typeof startPlace>>;
let server: TestServer;
let me: ReturnType<typeof realActor>;

/** A test on the network; skipped, with the reason, where there is none. */
const fault = (name: string, work: () => Promise<void>): void => void test(name, { skip }, work);

async function restart(): Promise<void> {
  server = await place.start();
  me = realActor(server, net);
}

before(async () => {
  if (skip !== false) return;
  net = await startNetwork();
  place = await startPlace(net);
  await restart();
  await me.fund(1_500_000_000);
  await place.kill('SIGTERM');
});
after(async () => {
  if (skip !== false) return;
  await place.end();
  await net.stop();
});
beforeEach(async () => {
  if (skip === false) await restart();
});
afterEach(async () => {
  if (skip !== false) return;
  net.link.mend();
  net.link.reset();
  await place.kill('SIGTERM');
});

/** Nothing moves: node and ledger agree to the msat, and so do all sums. */
async function atRest(): Promise<void> {
  await eventually(async () => assert.equal(await driftOf(server), 0n), 30_000, 200);
  await auditClean(place.db);
}

const secret = (): { preimage: Buffer; hash: Buffer } => {
  const preimage = randomBytes(32);
  return { preimage, hash: createHash('sha256').update(preimage).digest() };
};

/** A send that reaches carol and is held there. */
async function heldSend(amount_msats = 20_000_000n) {
  const { preimage, hash } = secret();
  const held = await net.carol.holdInvoice(preimage, hash, amount_msats);
  const id = await me.accept(me.sendBody({ payment_request: held.payment_request }));
  await eventually(async () => assert.equal(await net.carol.invoiceState(held.payment_hash), 'ACCEPTED'));
  return { id, ...held };
}

/** How many payments of a hash our node made. */
async function attemptsOf(payment_hash: string): Promise<number> {
  const { payments } = await net.ours.ask<{
    payments: { payment_hash: string; htlcs: { status: string }[] }[];
  }>('listPayments', { include_incomplete: true, reversed: true, max_payments: '100000' });
  return payments
    .filter((payment) => payment.payment_hash === payment_hash)
    .flatMap(({ htlcs }) => htlcs.filter(({ status }) => status === 'SUCCEEDED')).length;
}

fault(
  'threat 3: a link reset with a send in flight leaves it in flight, and it settles when the node answers',
  async () => {
    const { total } = await me.balance();
    const held = await heldSend();
    net.link.reset();
    assert.deepEqual([(await me.get(held.id)).status, (await me.balance()).holds], ['approved', 1]);
    net.link.cut();
    await held.settle();
    await new Promise((done) => setTimeout(done, 1000));
    assert.deepEqual([(await me.get(held.id)).status, (await me.balance()).holds], ['approved', 1]);
    net.link.mend();
    const sent = await me.ended(held.id);
    assert.equal(sent.status, 'completed');
    assert.equal(await attemptsOf(held.payment_hash), 1);
    assert.equal((await me.balance()).total, total - 20_000_000 - (sent.data.fees?.amount ?? 0));
    await atRest();
  },
);

fault('threat 3: a node whose answers never come keeps the hold; the truth is found by asking', async () => {
  const invoice = await net.carol.invoice({ amount_msats: 10_000_000n });
  net.link.holdAnswers();
  const id = await me.accept(me.sendBody({ payment_request: invoice.payment_request }));
  await eventually(async () => assert.equal(await net.carol.invoiceState(invoice.payment_hash), 'SETTLED'));
  assert.deepEqual([(await me.get(id)).status, (await me.balance()).holds], ['approved', 1]);
  // Long enough for every deadline of the link to pass.
  await new Promise((done) => setTimeout(done, 22_000));
  assert.equal((await me.get(id)).status, 'approved');
  net.link.mend();
  net.link.reset();
  assert.equal((await me.ended(id)).status, 'completed');
  assert.equal(await attemptsOf(invoice.payment_hash), 1);
  await atRest();
});

/** A send whose call is held by the link, bytes and all; the server is killed before it could be answered. */
async function lostCall(before: () => Promise<unknown> = () => Promise.resolve()) {
  const invoice = await net.carol.invoice({ amount_msats: 10_000_000n });
  await before();
  net.link.hold();
  const id = await me.accept(me.sendBody({ payment_request: invoice.payment_request }));
  await eventually(async () => {
    const [row] = await place.db.query('SELECT 1 FROM payments WHERE id = $1 AND state = $2', [
      id,
      'dispatched',
    ]);
    assert.ok(row);
  });
  // The state is committed before the call: let the call reach the link.
  await new Promise((done) => setTimeout(done, 200));
  await place.kill();
  return { id, ...invoice };
}

fault('a call that the link delivers after a restart: paid once, never released before', async () => {
  const { total } = await me.balance();
  const { id, payment_hash } = await lostCall();
  await restart();
  assert.deepEqual([(await me.get(id)).status, (await me.balance()).holds], ['approved', 1]);
  net.link.mend();
  const sent = await me.ended(id);
  assert.equal(sent.status, 'completed', JSON.stringify(sent.error));
  assert.equal(await attemptsOf(payment_hash), 1);
  assert.equal((await me.balance()).total, total - 10_000_000 - (sent.data.fees?.amount ?? 0));
  await atRest();
});

fault('a call that the link delivers after the send has failed is refused by the node', async () => {
  const { total } = await me.balance();
  const { id, payment_hash } = await lostCall(() => net.carol.kill());
  await restart();
  const failed = await me.ended(id);
  assert.deepEqual([failed.status, (await me.balance()).holds], ['failed', 0]);
  await net.carol.start();
  await net.carol.connect(net.bob);
  await eventually(async () => {
    assert.equal((await net.bob.channels()).filter(({ active }) => active).length, 3);
  });
  await net.ours.ask('resetMissionControl', {}, 'router');
  net.link.mend();
  // Were it taken, it would be paid within a second: the way to carol works again.
  await new Promise((done) => setTimeout(done, 5000));
  assert.equal(await net.carol.invoiceState(payment_hash), 'OPEN');
  assert.equal((await me.balance()).total, total);
  await atRest();
});

fault('threat 6: what was paid while the server was away is credited once, at its start', async () => {
  const { total } = await me.balance();
  const receives = await Promise.all([1, 2, 3].map(() => me.receive()));
  await place.kill();
  for (const receive of receives) {
    assert.equal((await net.carol.pay(receive.data.payment_request ?? '')).status, 'SUCCEEDED');
  }
  await restart();
  for (const { id } of receives) assert.equal((await me.ended(id)).status, 'completed');
  assert.equal((await me.balance()).total, total + 450_000);
  await place.kill();
  await restart();
  await atRest();
  assert.equal((await me.balance()).total, total + 450_000);
});

fault('the node killed -9 with payments in flight: each ends as the node says when it is back', async () => {
  const settled = await heldSend();
  const cancelled = await heldSend();
  await net.ours.kill();
  const invoice = await net.carol.invoice({ amount_msats: 1_000_000n });
  const waiting = await me.accept(me.sendBody({ payment_request: invoice.payment_request }));
  await new Promise((done) => setTimeout(done, 1000));
  for (const id of [settled.id, cancelled.id, waiting]) assert.equal((await me.get(id)).status, 'approved');
  await net.ours.start();
  await net.ours.connect(net.bob);
  await eventually(async () => {
    assert.equal((await net.ours.channels()).filter(({ active }) => active).length, 2);
  });
  await settled.settle();
  await cancelled.cancel();
  assert.equal((await me.ended(settled.id)).status, 'completed');
  const failed = await me.ended(cancelled.id);
  assert.deepEqual([failed.status, failed.error?.type], ['failed', 'send_failed']);
  // It waited for the node; whether its channels were up again by then is the node's to say.
  const { status } = await me.ended(waiting);
  assert.equal(status, (await attemptsOf(invoice.payment_hash)) === 1 ? 'completed' : 'failed');
  await atRest();
});

fault(
  'a node without its payment history ends nothing: the send stays in flight and waits for a human',
  async () => {
    const known = await me.send({
      payment_request: (await net.carol.invoice({ amount_msats: 1_000_000n })).payment_request,
    });
    assert.equal(known.status, 'completed');
    const { id, payment_hash } = await lostCall();
    await net.ours.ask('deleteAllPayments', { failed_payments_only: false, all_payments: true });
    await restart();
    await eventually(async () => {
      const raised = await place.db.query(
        `SELECT 1 FROM attention WHERE kind = 'lost_history' AND payment_id = $1`,
        [id],
      );
      assert.equal(raised.length, 1);
    });
    await new Promise((done) => setTimeout(done, 35_000));
    assert.deepEqual([(await me.get(id)).status, (await me.balance()).holds], ['approved', 1]);
    assert.equal(await net.carol.invoiceState(payment_hash), 'OPEN', 'never sent again');
    // New sends go on.
    const next = await me.send({
      payment_request: (await net.carol.invoice({ amount_msats: 1_000_000n })).payment_request,
    });
    assert.equal(next.status, 'completed');
    await resolveByOperator(place.db, id, 'failed');
    assert.deepEqual([(await me.get(id)).status, (await me.balance()).holds], ['failed', 0]);
    net.link.mend();
    await atRest();
  },
);

fault('threat 17: a node that hangs slows neither reads nor the payments of another node', async () => {
  const sandbox = await newTenant(place.db);
  const other = actor({
    ...server,
    credentials: sandbox,
    client: createClient(server.base_url, sandbox.api_key),
  });
  net.ours.signal('SIGSTOP');
  try {
    const stuck = await me.accept({
      id: randomUUID(),
      wallet_id: server.credentials.wallet_id,
      payment_kind: 'bolt11',
      amount: { currency: 'btc', amount: 1000 },
    } as { id: string });
    await other.fund(100_000);
    const slowest = await slowestOf(20, async () => {
      await me.get(stuck);
      await other.receive();
    });
    assert.ok(slowest < 2000, `${slowest} ms`);
    assert.equal((await me.get(stuck)).status, 'generating');
    net.ours.signal('SIGCONT');
    assert.equal((await me.payable(stuck)).status, 'receiving');
  } finally {
    net.ours.signal('SIGCONT');
  }
  await ready(server);
  await atRest();
});

async function slowestOf(times: number, work: () => Promise<unknown>): Promise<number> {
  let slowest = 0;
  for (let index = 0; index < times; index += 1) {
    const began = performance.now();
    await work();
    slowest = Math.max(slowest, performance.now() - began);
  }
  return slowest;
}

fault('threat 12: a transaction that could not be broadcast is the one that is broadcast later', async () => {
  const { total } = await me.balance();
  net.link.delay(150);
  const address = await net.carol.address();
  const body = me.sendBody(
    {
      address,
      amount: { currency: 'btc', amount: 30_000_000 },
      max_fee: { currency: 'btc', amount: 20_000_000 },
    },
    { type: 'onchain' },
  );
  const id = await me.accept(body);
  await eventually(
    async () => {
      const [row] = await place.db.query('SELECT 1 FROM chain_sends WHERE payment_id = $1', [id]);
      assert.ok(row);
    },
    30_000,
    1,
  );
  net.link.cut();
  const [stored] = await place.db.query<{ tx_id: string }>(
    'SELECT tx_id FROM chain_sends WHERE payment_id = $1',
    [id],
  );
  await place.kill();
  net.link.mend();
  await restart();
  await eventually(async () => assert.ok((await net.chain.mempool()).includes(stored?.tx_id ?? '')));
  await net.mine();
  const sent = await me.ended(id);
  assert.equal(sent.data.outflows?.[0]?.data.tx_id, stored?.tx_id);
  assert.equal((await me.balance()).total, total - 30_000_000 - (sent.data.fees?.amount ?? 0));
  await atRest();
});

const ROUNDS = Number(process.env['COULOMB_KILL_ROUNDS'] ?? 3);
const LIVE = ['generating', 'approved'];

fault(
  'threat 4: a server killed -9 with payments in flight loses nothing: each ends as the node says',
  async () => {
    const sends = new Map<string, string>();
    const receives = new Map<string, Promise<unknown>>();
    for (let round = 0; round < ROUNDS; round += 1) {
      const invoices = await Promise.all(
        Array.from({ length: 30 }, () => net.carol.invoice({ amount_msats: 1_000_000n })),
      );
      const work = [
        ...invoices.map(async ({ payment_request, payment_hash }) => {
          const body = me.sendBody({ payment_request });
          const answer = await me.create(body).catch(() => null);
          if (answer?.status === 202) sends.set(body.id, payment_hash);
        }),
        ...Array.from({ length: 10 }, async () => {
          const receive = await me
            .receive({ amount: { currency: 'btc', amount: 1_000_000 } })
            .catch(() => null);
          if (receive)
            receives.set(
              receive.id,
              net.carol.pay(receive.data.payment_request ?? '').catch(() => {}),
            );
        }),
      ];
      await new Promise((done) => setTimeout(done, randomInt(50, 1200)));
      await place.kill();
      await Promise.allSettled(work);
      await restart();
    }
    assert.ok(sends.size >= ROUNDS, `${sends.size} sends were accepted`);
    await Promise.all(receives.values());
    for (const [id, payment_hash] of sends) {
      const { status } = await me.until(id, (payment) => !LIVE.includes(payment.status));
      assert.equal(status, (await attemptsOf(payment_hash)) === 1 ? 'completed' : 'failed');
      const paid = (await net.carol.invoiceState(payment_hash)) === 'SETTLED';
      assert.equal(status === 'completed', paid, 'as the payee says');
    }
    for (const id of receives.keys()) assert.equal((await me.ended(id)).status, 'completed');
    await atRest();
  },
);
