import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { openServer } from './setup.ts';

const { server, me } = await openServer();

test('a Lightning receive is paid from outside and credited exactly', async () => {
  const before_it = await me.balance();
  const payment = await me.receive({ description: 'Order 123', metadata: { order: '123' } });
  assert.equal(payment.status, 'receiving');
  assert.match(payment.data.payment_request ?? '', /^lntbs1500n1/);
  assert.equal(payment.bip21_uri, `lightning:${payment.data.payment_request}`);
  assert.deepEqual(payment.requested_amount, { currency: 'btc', amount: 150_000, unit: 'msats' });
  assert.deepEqual(payment.metadata, { order: '123' });
  assert.equal(payment.data.memo, 'Order 123');
  const paid = await me.sandbox<{ status: string; preimage: string; payment_hash: string }>('payments', {
    payment_request: payment.data.payment_request,
  });
  assert.equal(paid.status, 'settled');
  const done = await me.ended(payment.id);
  assert.equal(done.status, 'completed');
  assert.equal(done.data.receipts?.[0]?.type, 'lightning');
  assert.equal(done.data.receipts?.[0]?.data.preimage, paid.preimage);
  assert.equal(done.data.receipts?.[0]?.data.payment_hash, paid.payment_hash);
  assert.deepEqual(await me.history(payment.id), ['requested', 'generated', 'completed']);
  assert.equal((await me.balance()).total, before_it.total + 150_000);
  const [event] = await me.ledger(undefined, `?payment_id=${payment.id}`);
  assert.equal(event?.type, 'credited');
  assert.equal(event?.amount?.amount, 150_000);
});

test('an any-amount receive shows 0, then what was paid, and no requested_amount', async () => {
  const payment = await me.receive({ amount: undefined, currency: 'btc' });
  assert.equal(payment.data.amount.amount, 0);
  assert.equal(payment.requested_amount, undefined);
  await me.sandbox('payments', { payment_request: payment.data.payment_request, amount_msats: 4321 });
  const done = await me.ended(payment.id);
  assert.equal(done.data.amount.amount, 4321);
  assert.equal(done.requested_amount, undefined);
});

test('a send captures principal and real fee and frees the rest', async () => {
  await me.fund(1_000_000);
  const start = await me.balance();
  const invoice = await me.outsideInvoice({ amount_msats: 100_000, fee_msats: 700, description: 'coffee' });
  const done = await me.send({
    payment_request: invoice.payment_request,
    max_fee: { currency: 'btc', amount: 1000 },
  });
  assert.equal(done.status, 'completed');
  assert.equal(done.data.fees?.amount, 700);
  assert.equal(done.data.fee_msats, 700);
  assert.equal(done.data.memo, 'coffee');
  assert.equal(done.data.outflows?.[0]?.data.payment_hash, invoice.payment_hash);
  assert.deepEqual(await me.history(done.id), ['requested', 'approved', 'held', 'dispatched', 'completed']);
  const end = await me.balance();
  assert.deepEqual(end, { available: start.available - 100_700, total: start.total - 100_700, holds: 0 });
  const events = await me.ledger(undefined, `?payment_id=${done.id}`);
  assert.deepEqual(
    events.map(({ type, amount }) => [type, amount?.amount]),
    [
      ['captured', 100_700],
      ['held', 101_000],
    ],
  );
});

test('an amountless invoice is paid with the amount given, and needs one', async () => {
  await me.fund(10_000);
  const { payment_request } = await me.outsideInvoice({});
  const refused = await me.create(me.sendBody({ payment_request }));
  assert.equal(refused.status, 400);
  assert.equal((refused.body as { error: { type: string } }).error.type, 'amount_required');
  const done = await me.send({ payment_request, amount: { currency: 'btc', amount: 3000 } });
  assert.equal(done.status, 'completed');
  assert.equal(done.data.amount.amount, 3000);
});

test('a failed send releases its hold and names the reason', async () => {
  await me.fund(10_000);
  const start = await me.balance();
  const { payment_request } = await me.outsideInvoice({ amount_msats: 5000, behavior: 'fail' });
  const done = await me.send({ payment_request });
  assert.equal(done.status, 'failed');
  assert.equal(done.error?.type, 'send_failed');
  assert.equal(done.error.code, 'no_route');
  assert.deepEqual(await me.history(done.id), ['requested', 'approved', 'held', 'dispatched', 'failed']);
  assert.deepEqual(await me.balance(), start);
});

test('a send without funds ends failed with hold_failed, and nothing is held', async () => {
  const start = await me.balance();
  const { payment_request } = await me.outsideInvoice({ amount_msats: 900_000_000_000 });
  const done = await me.send({ payment_request });
  assert.equal(done.status, 'failed');
  assert.equal(done.error?.type, 'hold_failed');
  assert.equal(done.error.code, 'insufficient_funds');
  assert.deepEqual(await me.history(done.id), ['requested', 'approved', 'failed']);
  assert.deepEqual(await me.balance(), start);
});

test('an internal payment settles as a shortcircuit without a fee, between wallets of one line', async () => {
  await me.fund(50_000);
  const other = await me.newWallet();
  const start = await me.balance();
  const receive = await me.receive({ wallet_id: other, amount: { currency: 'btc', amount: 20_000 } });
  const done = await me.send({ payment_request: receive.data.payment_request });
  assert.equal(done.status, 'completed');
  assert.equal(done.data.fees?.amount, 0);
  const [outflow] = done.data.outflows ?? [];
  assert.equal(outflow?.type, 'shortcircuit');
  assert.equal(outflow.data.offset_payment_id, receive.id);
  const received = await me.ended(receive.id);
  assert.equal(received.data.receipts?.[0]?.type, 'shortcircuit');
  assert.equal(received.data.receipts[0].data.offset_payment_id, done.id);
  assert.deepEqual(await me.history(done.id), ['requested', 'approved', 'held', 'completed']);
  assert.deepEqual(await me.history(receive.id), ['requested', 'generated', 'completed']);
  assert.equal((await me.balance()).total, start.total - 20_000);
  assert.equal((await me.balance(other)).total, 20_000);
});

test('an invoice paid inside cannot be paid again, inside or from outside', async () => {
  await me.fund(50_000);
  const other = await me.newWallet();
  const receive = await me.receive({ wallet_id: other, amount: { currency: 'btc', amount: 10_000 } });
  const { payment_request } = receive.data;
  assert.equal((await me.send({ payment_request })).status, 'completed');
  const again = await me.send({ payment_request });
  assert.equal(again.status, 'failed');
  assert.equal(again.error?.code, 'invalid_bolt11_invoice');
  const outside = await me.sandbox<{ status: string }>('payments', { payment_request });
  assert.equal(outside.status, 'failed');
  assert.equal((await me.balance(other)).total, 10_000);
});

test('an on-chain receive is credited at its confirmation, pending before it', async () => {
  const start = await me.balance();
  const payment = await me.receive({
    payment_kind: 'onchain',
    amount: { currency: 'btc', amount: 5_000_000 },
  });
  assert.match(payment.data.address ?? '', /^tb1/);
  const paid = await me.sandbox<{ tx_id: string }>('payments', {
    address: payment.data.address,
    amount_msats: 5_000_000,
  });
  const seen = await me.until(payment.id, ({ data }) => (data.receipts?.length ?? 0) > 0);
  assert.equal(seen.status, 'receiving');
  assert.equal(seen.data.receipts?.[0]?.data.is_pending, true);
  assert.equal((await me.balance()).total, start.total);
  await me.sandbox('blocks', { count: 1 });
  const done = await me.ended(payment.id);
  assert.equal(done.status, 'completed');
  assert.equal(done.data.receipts?.[0]?.data.tx_id, paid.tx_id);
  assert.equal(done.data.receipts[0].data.is_pending, false);
  assert.equal((await me.balance()).total, start.total + 5_000_000);
});

test('an on-chain receive paid in parts completes at the sum, and excess is credited in full', async () => {
  const payment = await me.receive({
    payment_kind: 'onchain',
    amount: { currency: 'btc', amount: 3_000_000 },
  });
  const start = await me.balance();
  for (const amount_msats of [1_000_000, 2_500_000, 700_000]) {
    await me.sandbox('payments', { address: payment.data.address, amount_msats });
    await me.sandbox('blocks', { count: 1 });
  }
  const done = await me.until(
    payment.id,
    ({ data }) => data.receipts?.length === 3 && data.receipts.every(({ data: d }) => !d.is_pending),
  );
  assert.equal(done.status, 'completed');
  assert.equal((await me.balance()).total, start.total + 4_200_000);
  assert.deepEqual(await me.history(payment.id), [
    'requested',
    'generated',
    'partially_received',
    'completed',
    'partially_received',
  ]);
});

test('an on-chain send shows its pending outflow and completes at its confirmation', async () => {
  await me.fund(10_000_000);
  const { address } = await me.sandbox<{ address: string }>('addresses');
  const body = me.sendBody(
    { address, amount: { currency: 'btc', amount: 2_000_000 }, description: 'Order 9' },
    { type: 'onchain' },
  );
  const id = await me.accept(body);
  const pending = await me.until(id, ({ data }) => (data.outflows?.length ?? 0) > 0);
  assert.equal(pending.status, 'approved');
  assert.equal(pending.data.outflows?.[0]?.data.is_pending, true);
  await me.until(id, () => true);
  const start = await me.balance();
  assert.equal(start.holds, 1);
  await me.sandbox('blocks', { count: 1 });
  const done = await me.until(id, ({ status }) => {
    if (status === 'approved') void me.sandbox('blocks', { count: 1 });
    return status === 'completed';
  });
  const fee = done.data.fees?.amount ?? -1;
  assert.ok(fee > 0 && fee <= 263_000 && fee % 1000 === 0, `fee ${fee}`);
  assert.equal(done.data.fee_sats, fee / 1000);
  assert.equal((await me.balance()).holds, 0);
});

test('a bip21 receive carries invoice and address, and is paid by either', async () => {
  for (const rail of ['payment_request', 'address'] as const) {
    const payment = await me.receive({
      payment_kind: 'bip21',
      amount: { currency: 'btc', amount: 2_000_000 },
    });
    assert.match(payment.bip21_uri ?? '', /^bitcoin:tb1/i);
    await me.sandbox('payments', {
      [rail]: payment.data[rail],
      ...(rail === 'address' ? { amount_msats: 2_000_000 } : {}),
    });
    await me.sandbox('blocks', { count: 1 });
    assert.equal((await me.ended(payment.id)).status, 'completed');
  }
});

test('a bip21 send takes amount and invoice from the URI', async () => {
  await me.fund(5_000_000);
  const { payment_request } = await me.outsideInvoice({ amount_msats: 1_000_000 });
  const { address } = await me.sandbox<{ address: string }>('addresses');
  const uri = `BITCOIN:${address.toUpperCase()}?AMOUNT=0.00001&LIGHTNING=${payment_request.toUpperCase()}&label=Order%20123`;
  const done = await me.send({ address: uri }, { type: 'bip21' });
  assert.equal(done.status, 'completed');
  assert.equal(done.data.amount.amount, 1_000_000);
  assert.equal(done.data.outflows?.[0]?.type, 'lightning');
});

test('a second POST of one id is 409 and changes nothing', async () => {
  const body = {
    id: randomUUID(),
    wallet_id: server.credentials.wallet_id,
    payment_kind: 'bolt11',
    amount: { currency: 'btc', amount: 1000 },
  };
  await me.accept(body);
  const again = await me.create(body);
  assert.equal(again.status, 409);
  const { error } = again.body as { error: { type: string; context: { payment_id: string } } };
  assert.equal(error.type, 'payment_exists');
  assert.equal(error.context.payment_id, body.id);
});

test('a receive expires by time, and money that comes late on-chain completes it', async () => {
  const payment = await me.receive({
    payment_kind: 'onchain',
    amount: { currency: 'btc', amount: 1_000_000 },
    expiration: 1,
  });
  const expired = await me.ended(payment.id);
  assert.equal(expired.status, 'expired');
  assert.equal(expired.error?.type, 'expired');
  await me.sandbox('payments', { address: payment.data.address, amount_msats: 1_000_000 });
  await me.sandbox('blocks', { count: 1 });
  const done = await me.until(payment.id, ({ status }) => status === 'completed');
  assert.equal(done.error, null);
  assert.deepEqual(await me.history(payment.id), ['requested', 'generated', 'expired', 'completed']);
});

test('a replaced transaction is forgotten, its replacement credited', async () => {
  const payment = await me.receive({
    payment_kind: 'onchain',
    amount: { currency: 'btc', amount: 1_000_000 },
  });
  const paid = await me.sandbox<{ tx_id: string }>('payments', {
    address: payment.data.address,
    amount_msats: 1_000_000,
  });
  await me.until(payment.id, ({ data }) => data.receipts?.[0]?.data.tx_id === paid.tx_id);
  const replaced = await me.sandbox<{ tx_id: string }>('replace', { tx_id: paid.tx_id, to_us: true });
  await me.sandbox('blocks', { count: 1 });
  const done = await me.ended(payment.id);
  assert.deepEqual(
    done.data.receipts?.map(({ data }) => data.tx_id),
    [replaced.tx_id],
  );
});

test('a credited output that the chain takes back freezes what the wallet has', async () => {
  const wallet_id = await me.newWallet();
  const payment = await me.receive({
    wallet_id,
    payment_kind: 'onchain',
    amount: { currency: 'btc', amount: 1_000_000 },
  });
  const paid = await me.sandbox<{ tx_id: string }>('payments', {
    address: payment.data.address,
    amount_msats: 1_000_000,
  });
  await me.sandbox('blocks', { count: 1 });
  await me.ended(payment.id);
  const { orphaned } = await me.sandbox<{ orphaned: string[] }>('reorg', { depth: 1 });
  assert.ok(orphaned.includes(paid.tx_id));
  const frozen = await me.until(payment.id, (shown) => (shown.frozen?.length ?? 0) > 0);
  assert.equal(frozen.frozen?.[0]?.data.tx_id, paid.tx_id);
  const balance = await me.balance(wallet_id);
  assert.deepEqual(balance, { available: 0, total: 1_000_000, holds: 1 });
});
