import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { beforeEach, test } from 'node:test';
import { positions } from '../src/ledger/rollup.ts';
import { decodeInvoice } from '../src/lightning/bolt11.ts';
import type { Shown } from './actor.ts';
import { dollars } from './dollars.ts';
import { auditClean } from './fixtures.ts';
import { openServer } from './setup.ts';

// $65,000.00 for a bitcoin: 1,000 cents are 15,384,615.38… msats, a sat is 0.065 cents.
const RATE = '6500000e0';
const clock = { skew_ms: 0, now: () => Date.now() + clock.skew_ms };

const { server, me } = await openServer({ COULOMB_QUOTE_SECONDS: '300' }, clock);
const my = dollars(server, me);
await my.setRate(RATE);
await my.fund(100_000);
await me.fund(50_000_000);
beforeEach(async () => {
  clock.skew_ms = 0;
  await my.setRate(RATE);
});

const cents = async (id = my.wallet_id) => (await me.balance(id)).total;
const payInvoice = (payment: Shown, fields: object = {}) =>
  me.sandbox('payments', { payment_request: payment.data.payment_request, ...fields });
const payAddress = (payment: Shown, msats: number) =>
  me.sandbox<{ tx_id: string }>('payments', { address: payment.data.address, amount_msats: msats });
const exchange = (payment: Shown) =>
  (payment as unknown as { exchanges: Record<string, unknown>[] }).exchanges;
const marketQuote = (payment: Shown) => (payment.data as { market_quote?: { rate: string } }).market_quote;
const refusal = async (body: object) => {
  const answer = await me.create({ id: randomUUID(), ...body });
  const { error } = answer.body as { error: { type: string; detail: string; context?: unknown } };
  return { status: answer.status, ...error };
};

test('a receive of $10.00 is paid in bitcoin and credits 1,000 cents, with the exchange that was made', async () => {
  const earlier = await cents();
  const payment = await my.receive(1000);
  assert.equal(payment.currency, 'usd');
  assert.deepEqual(payment.data.amount, { currency: 'usd', amount: 1000, unit: 'cents' });
  // Rounded up, to whole sats.
  assert.equal(payment.data.amount_msats, 15_385_000);
  assert.deepEqual(payment.requested_amount, { currency: 'btc', amount: 15_385_000, unit: 'msats' });
  assert.equal(decodeInvoice(payment.data.payment_request ?? '').amount_msats, 15_385_000n);
  assert.equal(marketQuote(payment)?.rate, RATE);
  await payInvoice(payment);
  const done = await me.ended(payment.id);
  assert.equal(done.status, 'completed');
  assert.equal((await cents()) - earlier, 1000);
  const [made] = exchange(done);
  assert.deepEqual(made?.['from_amount'], { currency: 'usd', amount: 1000, unit: 'cents' });
  assert.deepEqual(made['to_amount'], { currency: 'btc', amount: 15_385_000, unit: 'msats' });
  assert.equal(made['ledger_id'], done.data.receipts?.[0]?.data.ledger_id);
  const consumed = await my.readQuote(made['quote_id'] as string);
  assert.equal(consumed.wallet_id, my.wallet_id);
  assert.notEqual(consumed.consumed_at, null);
  await auditClean(server.db);
});

test('a quote with the precision of msats asks for no more than it must', async () => {
  const quote_id = await my.quote(my.usd(1000), 'btc', {
    target_precision: { currency: 'btc', precision: 'msats' },
  });
  const payment = await me.receive({ wallet_id: my.wallet_id, quote_id, amount: my.usd(1000) });
  assert.equal(payment.data.amount_msats, 15_384_616);
});

test('a bitcoin invoice is paid from dollars at the locked rate, whatever the market does meanwhile', async () => {
  const earlier = await cents();
  const invoice = await me.outsideInvoice({ amount_msats: 1_500_000, fee_msats: 20_000 });
  const quote_id = await my.quote(my.btc(1_500_000), 'usd');
  await my.setRate('9900000e0');
  const data = { ...invoice, max_fee: my.btc(100_000) };
  const payment = await me.send(data, { wallet_id: my.wallet_id, currency: 'usd', quote_id });
  assert.equal(payment.status, 'completed', JSON.stringify(payment.error));
  // 97.5 cents and 1.3 cents of fee: 98.8, rounded up once.
  assert.equal(earlier - (await cents()), 99);
  assert.deepEqual(payment.data.amount, { currency: 'usd', amount: 98, unit: 'cents' });
  assert.deepEqual(payment.data.fees, { currency: 'usd', amount: 1, unit: 'cents' });
  assert.deepEqual(
    [payment.data.amount_msats, payment.data.fee_msats],
    [1_500_000, 20_000],
    'the deprecated fields keep the rail',
  );
  const [made] = exchange(payment);
  assert.deepEqual(made?.['from_amount'], { currency: 'btc', amount: 1_520_000, unit: 'msats' });
  assert.deepEqual(made['to_amount'], { currency: 'usd', amount: 99, unit: 'cents' });
  const [captured, held] = await me.ledger(my.wallet_id);
  assert.deepEqual([captured?.type, captured?.amount?.amount], ['captured', 99]);
  assert.deepEqual([held?.type, held?.amount?.amount], ['held', 104]);
  await auditClean(server.db);
});

test('dollars leave on-chain and by BIP21', async () => {
  const earlier = await cents();
  const { address } = await me.sandbox<{ address: string }>('addresses');
  const sent = await my.quote(my.btc(20_000_000), 'usd');
  const body = me.sendBody(
    { address, amount: my.btc(20_000_000), max_fee: my.btc(1_000_000) },
    { wallet_id: my.wallet_id, currency: 'usd', quote_id: sent, type: 'onchain' },
  );
  await me.accept(body);
  // It is shown before it is broadcast: one block may be too early.
  const mining = setInterval(() => void me.sandbox('blocks', { count: 1 }), 50);
  const done = await me.ended(body.id).finally(() => clearInterval(mining));
  assert.equal(done.status, 'completed');
  // 20,141 sats at 0.065 cents.
  assert.equal(earlier - (await cents()), 1310);
  assert.equal(done.data.amount_sats, 20_000);
  const invoice = await me.outsideInvoice({ amount_msats: 1_000_000 });
  const uri = `bitcoin:${address}?amount=0.00001&lightning=${invoice.payment_request}`;
  const bip21 = await my.pay(1_000_000, { address: uri }, { type: 'bip21' });
  assert.equal(bip21.status, 'completed', JSON.stringify(bip21.error));
  assert.equal(earlier - (await cents()), 1310 + 65);
  await auditClean(server.db);
});

test('between wallets of dollars and of bitcoin money moves inside, exchanged once on each side', async () => {
  const other = await my.newWallet();
  const [usd, btc] = [await cents(), (await me.balance()).total];
  // Dollars pay bitcoin.
  const wanted = await me.receive({ amount: my.btc(2_000_000) });
  const out = await my.pay(2_000_000, { payment_request: wanted.data.payment_request });
  assert.equal(out.data.outflows?.[0]?.type, 'shortcircuit');
  assert.equal((await me.balance()).total - btc, 2_000_000);
  assert.equal(usd - (await cents()), 130);
  // Bitcoin pays dollars.
  const owed = await my.receive(130);
  const back = await me.send({ payment_request: owed.data.payment_request });
  assert.equal(back.status, 'completed');
  assert.equal(await cents(), usd);
  // Dollars pay dollars: each side by its own quote.
  const between = await my.receive(500, { wallet_id: other });
  const msats = between.data.amount_msats ?? 0;
  const moved = await my.pay(msats, { payment_request: between.data.payment_request });
  assert.equal(moved.status, 'completed', JSON.stringify(moved.error));
  assert.deepEqual([usd - (await cents()), await cents(other)], [501, 500]);
  assert.equal((await me.get(between.id)).status, 'completed');
  await auditClean(server.db);
});

test('a payment without a usable quote is refused, and nothing is held', async () => {
  const { payment_request } = await me.outsideInvoice({ amount_msats: 1_000_000 });
  const earlier = await me.balance(my.wallet_id);
  const send = (quote_id?: string, data: object = {}) =>
    refusal({
      wallet_id: my.wallet_id,
      currency: 'usd',
      type: 'bolt11',
      data: { payment_request, ...data },
      ...(quote_id === undefined ? {} : { quote_id }),
    });
  const receive = (quote_id: string | undefined, amount: object) =>
    refusal({ wallet_id: my.wallet_id, payment_kind: 'bolt11', amount, quote_id });
  assert.equal((await send()).type, 'quote_required');
  assert.equal((await receive(undefined, my.usd(1000))).type, 'quote_required');
  const right = await my.quote(my.btc(1_000_000), 'usd');
  const wrong: [string, string][] = [
    ['unknown', randomUUID()],
    ['another amount', await my.quote(my.btc(1_000_001), 'usd')],
    ['the other direction', await my.quote(my.usd(1000), 'btc')],
    [
      'another line',
      await my.quote(my.btc(1_000_000), 'usd', { line_of_credit_id: server.credentials.line_of_credit_id }),
    ],
  ];
  for (const [what, id] of wrong) {
    const { status, type } = await send(id);
    assert.deepEqual([status, type], [400, 'invalid_quote'], what);
  }
  assert.equal((await receive(right, my.usd(1000))).type, 'invalid_quote');
  assert.equal((await receive(right, my.btc(1000))).type, 'invalid_currency');
  assert.equal(
    (await refusal({ wallet_id: my.wallet_id, payment_kind: 'bolt11', currency: 'usd' })).type,
    'amount_required',
  );
  const bitcoin = me.sendBody({ payment_request }, { quote_id: right });
  assert.equal((await refusal(bitcoin)).type, 'invalid_quote', 'a wallet of bitcoin has nothing to quote');
  clock.skew_ms = 301_000;
  assert.equal((await send(right)).type, 'invalid_quote', 'expired');
  clock.skew_ms = 0;
  const ok = await me.send(
    { payment_request },
    { wallet_id: my.wallet_id, currency: 'usd', quote_id: right },
  );
  assert.equal(ok.status, 'completed');
  assert.equal((await send(right)).type, 'invalid_quote', 'used');
  const now = await me.balance(my.wallet_id);
  assert.deepEqual([earlier.total - now.total, now.holds], [65, 0]);
});

test('of many payments with one quote exactly one is made', async () => {
  const quote_id = await my.quote(my.usd(700), 'btc');
  const bodies = Array.from({ length: 20 }, () => ({
    id: randomUUID(),
    wallet_id: my.wallet_id,
    payment_kind: 'bolt11',
    amount: my.usd(700),
    quote_id,
  }));
  const answers = await Promise.all(bodies.map((body) => me.create(body)));
  const statuses = answers.map(({ status }) => status).sort((a, b) => a - b);
  assert.deepEqual(statuses, [202, ...Array.from({ length: 19 }, () => 400)]);
});

test('threat 20: a quoted receive can be paid for no longer than its quote holds', async () => {
  const payment = await my.receive(1000, { expiration: 3600 });
  const [made] = [await my.readQuote((await quoteOf(payment)) ?? '')];
  const invoice = decodeInvoice(payment.data.payment_request ?? '');
  assert.ok(invoice.expires_at_ms <= Date.parse(made.expires_at ?? ''));
  const { expiration } = payment.data as { expiration?: number };
  assert.ok(expiration !== undefined && expiration <= 300 && expiration > 290);
});

const quoteOf = async (payment: Shown): Promise<string | undefined> => {
  const [row] = await server.db.query<{ quote_id: string }>('SELECT quote_id FROM payments WHERE id = $1', [
    payment.id,
  ]);
  return row?.quote_id;
};

test('money that comes after its quote has ended is credited at the rate of then', async () => {
  const earlier = await cents();
  const payment = await my.receive(1000, { payment_kind: 'onchain' });
  assert.equal(payment.data.amount_sats, 15_385);
  clock.skew_ms = 400_000;
  await my.setRate('13000000e0');
  await payAddress(payment, 15_385_000);
  await me.sandbox('blocks', { count: 1 });
  const done = await me.until(payment.id, ({ status }) => status === 'completed');
  assert.equal((await cents()) - earlier, 2000, 'twice the rate, twice the cents');
  const [made] = exchange(done);
  assert.equal(made?.['quote_id'], null);
  assert.deepEqual(
    [made['from_amount'], made['to_amount']],
    [
      { currency: 'btc', amount: 15_385_000, unit: 'msats' },
      { currency: 'usd', amount: 2000, unit: 'cents' },
    ],
  );
  await auditClean(server.db);
});

test('money worth less than a cent waits in suspense and is credited with what follows', async () => {
  // $10 for a bitcoin: 1,000 cents are a bitcoin, a cent is 100,000 sats.
  await my.setRate('1000e0');
  const earlier = await cents();
  const payment = await my.receive(2, { payment_kind: 'onchain' });
  assert.equal(payment.data.amount_sats, 200_000);
  await payAddress(payment, 60_000_000);
  await me.sandbox('blocks', { count: 1 });
  const waiting = await me.until(payment.id, ({ data }) => data.receipts?.[0]?.data.is_pending === false);
  assert.equal(waiting.status, 'receiving');
  assert.equal(await cents(), earlier);
  const suspense = async () =>
    (await positions(server.db)).find(({ kind, currency }) => kind === 'suspense' && currency === 'btc')
      ?.balance;
  assert.equal(await suspense(), 60_000_000n);
  await auditClean(server.db);
  await payAddress(payment, 140_000_000);
  await me.sandbox('blocks', { count: 1 });
  const done = await me.ended(payment.id);
  assert.equal(done.status, 'completed');
  assert.equal((await cents()) - earlier, 2);
  assert.equal(await suspense(), 0n);
  const ledger_ids = new Set(done.data.receipts?.map(({ data }) => data.ledger_id));
  assert.equal(ledger_ids.size, 1, 'one credit for both');
  await auditClean(server.db);
});

test('a credited output that the chain takes back freezes the cents that it brought', async () => {
  const earlier = await me.balance(my.wallet_id);
  const payment = await my.receive(1000, { payment_kind: 'onchain' });
  await payAddress(payment, 15_385_000);
  await me.sandbox('blocks', { count: 1 });
  assert.equal((await me.ended(payment.id)).status, 'completed');
  await me.sandbox('reorg', { depth: 1 });
  const frozen = await me.until(payment.id, (shown) => (shown.frozen ?? []).length > 0);
  assert.equal(frozen.frozen?.[0]?.data.amount_sats, 15_385);
  const now = await me.balance(my.wallet_id);
  assert.deepEqual([now.total - earlier.total, now.available - earlier.available], [1000, 0]);
  await auditClean(server.db);
});

test('money that came late has its own rate, whatever comes with it in the same look at the chain', async () => {
  const earlier = await cents();
  const payment = await my.receive(1000, { payment_kind: 'onchain' });
  await payAddress(payment, 5_000_000);
  await me.sandbox('blocks', { count: 1 });
  await me.until(payment.id, ({ data }) => data.receipts?.[0]?.data.is_pending === false);
  // 5,000 sats in time are 325 cents; 10,385 sats late are 1,350 at twice the rate.
  clock.skew_ms = 400_000;
  await my.setRate('13000000e0');
  await payAddress(payment, 10_385_000);
  await me.sandbox('blocks', { count: 1 });
  const done = await me.until(payment.id, ({ status }) => status === 'completed');
  assert.equal((await cents()) - earlier, 325 + 1350);
  assert.deepEqual(
    exchange(done).map(({ quote_id }) => quote_id === null),
    [false, true],
  );
  await auditClean(server.db);
});

test('money in suspense that the chain takes back was never there', async () => {
  await my.setRate('1000e0');
  const payment = await my.receive(2, { payment_kind: 'onchain' });
  await payAddress(payment, 60_000_000);
  await me.sandbox('blocks', { count: 1 });
  await me.until(payment.id, ({ data }) => data.receipts?.[0]?.data.is_pending === false);
  await me.sandbox('reorg', { depth: 1 });
  const gone = await me.until(payment.id, (shown) => (shown.frozen ?? []).length > 0);
  assert.deepEqual([gone.status, gone.data.receipts], ['receiving', []]);
  await auditClean(server.db);
  await payAddress(payment, 140_000_000);
  await me.sandbox('blocks', { count: 1 });
  const part = await me.until(payment.id, ({ data }) => data.receipts?.[0]?.data.is_pending === false);
  assert.equal(part.status, 'receiving', 'what is missing is missing');
  await auditClean(server.db);
});

test('a send that is refused its hold leaves its quote for another try', async () => {
  const empty = await my.newWallet();
  const { payment_request } = await me.outsideInvoice({ amount_msats: 1_000_000 });
  const quote_id = await my.quote(my.btc(1_000_000), 'usd');
  const refused = await me.send({ payment_request }, { wallet_id: empty, currency: 'usd', quote_id });
  assert.deepEqual([refused.status, refused.error?.code], ['failed', 'insufficient_funds']);
  assert.equal((await my.readQuote(quote_id)).consumed_at, null);
  const paid = await me.send({ payment_request }, { wallet_id: my.wallet_id, currency: 'usd', quote_id });
  assert.equal(paid.status, 'completed');
  assert.equal((await my.readQuote(quote_id)).wallet_id, my.wallet_id);
  await auditClean(server.db);
});

test('late money below a cent ends its receive, and is credited when the rate makes a cent of it', async () => {
  await my.setRate('1000e0');
  const earlier = await cents();
  const payment = await my.receive(1, { payment_kind: 'onchain' });
  clock.skew_ms = 400_000;
  await my.setRate('900e0');
  await payAddress(payment, 100_000_000);
  await me.sandbox('blocks', { count: 1 });
  const over = await me.until(payment.id, ({ status }) => status !== 'receiving');
  assert.equal(over.status, 'expired');
  await auditClean(server.db);
  await my.setRate('2500e0');
  clock.skew_ms += 2 * 3_600_000;
  assert.equal((await me.until(payment.id, ({ status }) => status !== 'expired')).status, 'completed');
  assert.equal((await cents()) - earlier, 2);
  await auditClean(server.db);
});
