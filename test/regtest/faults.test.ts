import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { resolveByOperator } from '../../src/admin/operator.ts';
import { actor } from '../actor.ts';
import { createClient } from '../client.ts';
import { newTenant } from '../fixtures.ts';
import { ready } from './fixture.ts';
import { createGround, lostCall } from './ground.ts';
import { eventually } from '../wait.ts';

const ground = createGround();
const { fault, restart, atRest, attemptsOf } = ground;

fault('threat 3: a node whose answers never come keeps the hold; the truth is found by asking', async () => {
  const invoice = await ground.net.carol.invoice({ amount_msats: 10_000_000n });
  ground.net.link.holdAnswers();
  const id = await ground.me.accept(ground.me.sendBody({ payment_request: invoice.payment_request }));
  await eventually(async () =>
    assert.equal(await ground.net.carol.invoiceState(invoice.payment_hash), 'SETTLED'),
  );
  assert.deepEqual([(await ground.me.get(id)).status, (await ground.me.balance()).holds], ['approved', 1]);
  // Long enough for every deadline of the link to pass.
  await new Promise((done) => setTimeout(done, 22_000));
  assert.equal((await ground.me.get(id)).status, 'approved');
  ground.net.link.mend();
  ground.net.link.reset();
  assert.equal((await ground.me.ended(id)).status, 'completed');
  assert.equal(await attemptsOf(invoice.payment_hash), 1);
  await atRest();
});

fault('threat 6: what was paid while the server was away is credited once, at its start', async () => {
  const { total } = await ground.me.balance();
  const receives = await Promise.all([1, 2, 3].map(() => ground.me.receive()));
  await ground.place.kill();
  for (const receive of receives) {
    assert.equal((await ground.net.carol.pay(receive.data.payment_request ?? '')).status, 'SUCCEEDED');
  }
  await restart();
  for (const { id } of receives) assert.equal((await ground.me.ended(id)).status, 'completed');
  assert.equal((await ground.me.balance()).total, total + 450_000);
  await ground.place.kill();
  await restart();
  await atRest();
  assert.equal((await ground.me.balance()).total, total + 450_000);
});

fault(
  'threat 6: a settlement that the subscription passes over is found by comparing the lists',
  async () => {
    const { total } = await ground.me.balance();
    const known = await ground.me.receive();
    assert.equal((await ground.net.carol.pay(known.data.payment_request ?? '')).status, 'SUCCEEDED');
    assert.equal((await ground.me.ended(known.id)).status, 'completed');
    const receive = await ground.me.receive();
    await ground.place.kill();
    assert.equal((await ground.net.carol.pay(receive.data.payment_request ?? '')).status, 'SUCCEEDED');
    // As if a later settlement had been told and booked before it: the subscription goes on behind both.
    const moved = await ground.place.db.query(
      `UPDATE payment_keys SET settle_index = settle_index + 100000
     WHERE payment_id = $1 AND settle_index IS NOT NULL RETURNING settle_index`,
      [known.id],
    );
    assert.equal(moved.length, 1);
    await restart();
    assert.equal((await ground.me.ended(receive.id)).status, 'completed');
    assert.equal((await ground.me.balance()).total, total + 300_000);
    await ground.place.db.query(
      'UPDATE payment_keys SET settle_index = settle_index - 100000 WHERE payment_id = $1 AND settle_index IS NOT NULL',
      [known.id],
    );
    await atRest();
  },
);

fault('the node killed -9 with payments in flight: each ends as the node says when it is back', async () => {
  const settled = await ground.heldSend();
  const cancelled = await ground.heldSend();
  await ground.net.ours.kill();
  const invoice = await ground.net.carol.invoice({ amount_msats: 1_000_000n });
  const waiting = await ground.me.accept(ground.me.sendBody({ payment_request: invoice.payment_request }));
  await new Promise((done) => setTimeout(done, 1000));
  for (const id of [settled.id, cancelled.id, waiting])
    assert.equal((await ground.me.get(id)).status, 'approved');
  await ground.net.ours.start();
  await ground.net.ours.connect(ground.net.bob);
  await eventually(async () => {
    assert.equal((await ground.net.ours.channels()).filter(({ active }) => active).length, 2);
  });
  await settled.settle();
  await cancelled.cancel();
  assert.equal((await ground.me.ended(settled.id)).status, 'completed');
  const failed = await ground.me.ended(cancelled.id);
  assert.deepEqual([failed.status, failed.error?.type], ['failed', 'send_failed']);
  // It waited for the node; whether its channels were up again by then is the node's to say.
  const { status } = await ground.me.ended(waiting);
  assert.equal(status, (await attemptsOf(invoice.payment_hash)) === 1 ? 'completed' : 'failed');
  await atRest();
});

fault(
  'a node without its payment history ends nothing: the send stays in flight and waits for a human',
  async () => {
    const known = await ground.me.send({
      payment_request: (await ground.net.carol.invoice({ amount_msats: 1_000_000n })).payment_request,
    });
    assert.equal(known.status, 'completed');
    const { id, payment_hash } = await lostCall(ground);
    await ground.net.ours.ask('deleteAllPayments', { failed_payments_only: false, all_payments: true });
    await restart();
    await eventually(async () => {
      const raised = await ground.place.db.query(
        `SELECT 1 FROM attention WHERE kind = 'lost_history' AND payment_id = $1`,
        [id],
      );
      assert.equal(raised.length, 1);
    });
    await new Promise((done) => setTimeout(done, 35_000));
    assert.deepEqual([(await ground.me.get(id)).status, (await ground.me.balance()).holds], ['approved', 1]);
    assert.equal(await ground.net.carol.invoiceState(payment_hash), 'OPEN', 'never sent again');
    // New sends go on.
    const next = await ground.me.send({
      payment_request: (await ground.net.carol.invoice({ amount_msats: 1_000_000n })).payment_request,
    });
    assert.equal(next.status, 'completed');
    await resolveByOperator(ground.place.db, id, 'failed');
    assert.deepEqual([(await ground.me.get(id)).status, (await ground.me.balance()).holds], ['failed', 0]);
    ground.net.link.mend();
    await atRest();
  },
);

fault('threat 17: a node that hangs slows neither reads nor the payments of another node', async () => {
  const sandbox = await newTenant(ground.place.db);
  const other = actor({
    ...ground.server,
    credentials: sandbox,
    client: createClient(ground.server.base_url, sandbox.api_key),
  });
  ground.net.ours.signal('SIGSTOP');
  try {
    const stuck = await ground.me.accept({
      id: randomUUID(),
      wallet_id: ground.server.credentials.wallet_id,
      payment_kind: 'bolt11',
      amount: { currency: 'btc', amount: 1000 },
    } as { id: string });
    await other.fund(100_000);
    const slowest = await slowestOf(20, async () => {
      await ground.me.get(stuck);
      await other.receive();
    });
    assert.ok(slowest < 2000, `${slowest} ms`);
    assert.equal((await ground.me.get(stuck)).status, 'generating');
    ground.net.ours.signal('SIGCONT');
    assert.equal((await ground.me.payable(stuck)).status, 'receiving');
  } finally {
    ground.net.ours.signal('SIGCONT');
  }
  await ready(ground.server);
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
  const { total } = await ground.me.balance();
  ground.net.link.delay(150);
  const address = await ground.net.carol.address();
  const body = ground.me.sendBody(
    {
      address,
      amount: { currency: 'btc', amount: 30_000_000 },
      max_fee: { currency: 'btc', amount: 20_000_000 },
    },
    { type: 'onchain' },
  );
  const id = await ground.me.accept(body);
  await eventually(
    async () => {
      const [row] = await ground.place.db.query('SELECT 1 FROM chain_sends WHERE payment_id = $1', [id]);
      assert.ok(row);
    },
    30_000,
    1,
  );
  ground.net.link.cut();
  const [stored] = await ground.place.db.query<{ tx_id: string }>(
    'SELECT tx_id FROM chain_sends WHERE payment_id = $1',
    [id],
  );
  await ground.place.kill();
  ground.net.link.mend();
  await restart();
  await eventually(async () => assert.ok((await ground.net.chain.mempool()).includes(stored?.tx_id ?? '')));
  await ground.net.mine();
  const sent = await ground.me.ended(id);
  assert.equal(sent.data.outflows?.[0]?.data.tx_id, stored?.tx_id);
  assert.equal((await ground.me.balance()).total, total - 30_000_000 - (sent.data.fees?.amount ?? 0));
  await atRest();
});
