import assert from 'node:assert/strict';
import { test } from 'node:test';
import { updateLine } from '../src/admin/operator.ts';
import { positions } from '../src/ledger/rollup.ts';
import type { Shown } from './actor.ts';
import { dollars } from './dollars.ts';
import { auditClean } from './fixtures.ts';
import { openServer } from './setup.ts';

// Processing fees, which the operator earns, and the spread of a line; at $65,000.00 for a bitcoin.
const { server, me } = await openServer();
const my = dollars(server, me);
await my.setRate('6500000e0');
await my.fund(100_000);
await me.fund(50_000_000);

const cents = async (id = my.wallet_id) => (await me.balance(id)).total;
const payInvoice = (payment: Shown) =>
  me.sandbox('payments', { payment_request: payment.data.payment_request });
const payAddress = (payment: Shown, msats: number) =>
  me.sandbox<{ tx_id: string }>('payments', { address: payment.data.address, amount_msats: msats });

test('both wallets bear processing fees on top: the payer pays them, and they are the operator’s', async () => {
  const lines = [my.line_of_credit_id, server.credentials.line_of_credit_id];
  for (const line of lines) await updateLine(server.db, line, { send_bps: 150, receive_bps: 250 });
  const fees = async (currency: string) =>
    (await positions(server.db)).find((row) => row.kind === 'processing_fees' && row.currency === currency)
      ?.balance ?? 0n;
  try {
    const [usd, btc] = [await cents(), (await me.balance()).total];
    const earned = { usd: await fees('usd'), btc: await fees('btc') };
    // Receive $10.00: the payer pays $10.25.
    const payment = await my.receive(1000);
    assert.deepEqual(payment.data.amount, { currency: 'usd', amount: 1025, unit: 'cents' });
    assert.deepEqual(payment.data.fees, { currency: 'usd', amount: 25, unit: 'cents' });
    assert.equal(payment.requested_amount?.amount, 15_385_000, 'the principal on the rail');
    assert.equal(payment.data.amount_msats, 15_770_000);
    assert.deepEqual(feeOf(payment), {
      basis_points: 250,
      amount: { currency: 'usd', amount: 25, unit: 'cents' },
    });
    await payInvoice(payment);
    const received = await me.ended(payment.id);
    assert.equal((await cents()) - usd, 1000);
    assert.deepEqual(breakdown(received), { principal: 1000, network_fee: 0, processing_fee: 25 });
    // Pay 1,000 sats from dollars: the fee is on the principal in bitcoin, 15 sats.
    const invoice = await me.outsideInvoice({ amount_msats: 1_000_000 });
    const sent = await my.pay(1_000_000, invoice);
    assert.deepEqual(feeOf(sent), {
      basis_points: 150,
      amount: { currency: 'btc', amount: 15_000, unit: 'msats' },
    });
    assert.deepEqual(breakdown(sent), { principal: 65, network_fee: 0, processing_fee: 1 });
    assert.equal((await cents()) - usd, 1000 - 66);
    assert.equal((await fees('usd')) - earned.usd, 26n);
    // The same in bitcoin, exact to the msat.
    const bitcoin = await me.receive({ amount: my.btc(100_001) });
    assert.equal(bitcoin.data.amount_msats, 102_502, '2,500.025 msats round up');
    await payInvoice(bitcoin);
    assert.deepEqual(breakdown(await me.ended(bitcoin.id)), {
      principal: 100_001,
      network_fee: 0,
      processing_fee: 2501,
    });
    const paid = await me.send(await me.outsideInvoice({ amount_msats: 10_000, fee_msats: 7 }));
    assert.deepEqual(breakdown(paid), { principal: 10_000, network_fee: 7, processing_fee: 150 });
    assert.equal(paid.data.fees?.amount, 157);
    assert.equal((await me.balance()).total - btc, 100_001 - 10_157);
    assert.equal((await fees('btc')) - earned.btc, 2501n + 150n);
    // Nobody can put a fee on an amount that the payer chooses.
    const open = await me.receive({ amount: undefined, currency: 'btc' });
    assert.deepEqual(
      [open.status, open.error?.type, open.error?.code],
      ['failed', 'receive_failed', 'invalid_payment_amount'],
    );
    await auditClean(server.db);
  } finally {
    for (const line of lines) await updateLine(server.db, line, { send_bps: 0, receive_bps: 0 });
  }
});

const feeOf = (payment: Shown) => (payment as unknown as { processing_fee?: unknown }).processing_fee;
const breakdown = (payment: Shown) => {
  const { payment_breakdown } = payment as unknown as {
    payment_breakdown: Record<string, { amount: number }>;
  };
  return Object.fromEntries(Object.entries(payment_breakdown).map(([name, { amount }]) => [name, amount]));
};

test('a fee is taken of what was paid so far: parts raise it not, excess bears it too', async () => {
  await updateLine(server.db, server.credentials.line_of_credit_id, { receive_bps: 100 });
  try {
    const earlier = (await me.balance()).total;
    const payment = await me.receive({ payment_kind: 'onchain', amount: my.btc(100_000_000) });
    assert.equal(payment.data.amount_sats, 101_000);
    for (const msats of [33_333_000, 33_333_000, 34_334_000]) {
      await payAddress(payment, msats);
      await me.sandbox('blocks', { count: 1 });
    }
    const done = await me.ended(payment.id);
    assert.deepEqual(breakdown(done), { principal: 100_000_000, network_fee: 0, processing_fee: 1_000_000 });
    assert.equal((await me.balance()).total - earlier, 100_000_000);
    await payAddress(payment, 1_010_000);
    await me.sandbox('blocks', { count: 1 });
    const more = await me.until(
      payment.id,
      ({ data }) => data.receipts?.length === 4 && !data.receipts[3]?.data.is_pending,
    );
    assert.deepEqual(breakdown(more), { principal: 101_000_000, network_fee: 0, processing_fee: 1_010_000 });
    assert.deepEqual(feeOf(more), {
      basis_points: 100,
      amount: { currency: 'btc', amount: 1_000_000, unit: 'msats' },
    });
    await auditClean(server.db);
  } finally {
    await updateLine(server.db, server.credentials.line_of_credit_id, { receive_bps: 0 });
  }
});

test('a spread makes every quote on its line worse, either way, and the exchange keeps the difference', async () => {
  await updateLine(server.db, my.line_of_credit_id, { spread_bps: 100 });
  try {
    const detail = async (id: string) => (await my.readQuote(id)).quote?.detail.rate;
    assert.equal(await detail(await my.quote(my.btc(1_000_000), 'usd')), '6565000e0');
    assert.equal(await detail(await my.quote(my.usd(1000), 'btc')), '6435000e0');
  } finally {
    await updateLine(server.db, my.line_of_credit_id, { spread_bps: 0 });
  }
});

test('a wallet’s own rates stand over those of its line, until it has none; dollars come by BIP21, too', async () => {
  const line = my.line_of_credit_id;
  const path = `/organizations/${server.credentials.organization_id}/wallets/${my.wallet_id}/policies`;
  const policy = async (processing_fee: object | null) => {
    const answer = await server.client.request('PATCH', path, { body: { processing_fee } });
    assert.equal(answer.status, 202, answer.text);
  };
  const asked = async () => {
    const { data } = await my.receive(1000, { payment_kind: 'bip21' });
    return data.amount.amount;
  };
  await updateLine(server.db, line, { receive_bps: 250 });
  try {
    assert.equal(await asked(), 1025);
    await policy({ send_basis_points: 0, receive_basis_points: 100 });
    assert.equal(await asked(), 1010);
    await policy({ send_basis_points: 0, receive_basis_points: 0 });
    const earlier = await cents();
    const free = await my.receive(1000, { payment_kind: 'bip21' });
    assert.equal(feeOf(free), undefined);
    await me.sandbox('payments', { uri: free.bip21_uri });
    assert.equal((await me.ended(free.id)).status, 'completed');
    assert.equal((await cents()) - earlier, 1000);
    await policy(null);
    assert.equal(await asked(), 1025);
    await auditClean(server.db);
  } finally {
    await updateLine(server.db, line, { receive_bps: 0 });
  }
});
