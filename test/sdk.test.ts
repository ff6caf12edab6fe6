import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { VoltageApiError } from 'voltage-api-sdk';
import { openServer } from './setup.ts';

const { server, me } = await openServer();

const FAST = { intervalMs: 20, maxAttempts: 500 };
const scope = () => ({
  organization_id: server.credentials.organization_id,
  environment_id: server.credentials.environment_id,
});

test('the official client creates, reads, lists and deletes a wallet', async () => {
  const { organization_id, environment_id } = scope();
  const id = randomUUID();
  await server.sdk.createWallet({
    organization_id,
    wallet: {
      id,
      environment_id,
      line_of_credit_id: server.credentials.line_of_credit_id,
      name: 'My New Wallet',
      network: 'mutinynet',
      limit: 100_000_000,
      metadata: { description: 'A test wallet' },
    },
  });
  const wallet = await server.sdk.getWallet({ organization_id, wallet_id: id });
  assert.equal(wallet.name, 'My New Wallet');
  assert.equal(wallet.limit, 100_000_000);
  assert.ok((await server.sdk.getWallets({ organization_id })).some((one: { id: string }) => one.id === id));
  await server.sdk.deleteWallet({ organization_id, wallet_id: id });
  assert.equal((await server.sdk.getWallet({ organization_id, wallet_id: id })).active, false);
});

test("every payment request of the official client's README works as written there", async () => {
  const { wallet_id } = server.credentials;
  const requests = [
    {
      wallet_id,
      currency: 'btc',
      amount_msats: 150_000,
      payment_kind: 'bolt11',
      description: 'Payment for coffee',
    },
    {
      wallet_id,
      currency: 'btc',
      amount_msats: 1_500_000,
      payment_kind: 'onchain',
      description: 'On-chain payment',
    },
    {
      wallet_id,
      currency: 'btc',
      amount_msats: 250_000,
      payment_kind: 'bip21',
      description: 'Flexible payment',
    },
    { wallet_id, currency: 'btc', amount_msats: null, payment_kind: 'bolt11', description: 'Any amount' },
  ] as const;
  for (const payment of requests) {
    const made = await server.sdk.createPaymentRequest({ ...scope(), payment }, FAST);
    assert.equal(made.status, 'receiving');
    assert.equal(made.type, payment.payment_kind);
    if (made.type === 'onchain') assert.match(made.data.address ?? '', /^tb1/);
    else if (made.type === 'bolt11' || made.type === 'bip21')
      assert.match(made.data.payment_request ?? '', /^lntbs/);
  }
});

test('the official client receives, sends on three rails and reads an exact ledger', async () => {
  const { organization_id, environment_id } = scope();
  const { wallet_id } = server.credentials;
  await me.fund(20_000_000);
  const { payment_request } = await me.outsideInvoice({ amount_msats: 100_000, fee_msats: 10 });
  const lightning = await server.sdk.sendPayment(
    { ...scope(), payment: { wallet_id, currency: 'btc', type: 'bolt11', data: { payment_request } } },
    FAST,
  );
  assert.equal(lightning.status, 'completed');
  const { address } = await me.sandbox<{ address: string }>('addresses');
  const id = randomUUID();
  const sending = server.sdk.sendPayment(
    {
      ...scope(),
      payment: { id, wallet_id, currency: 'btc', type: 'onchain', data: { address, amount_sats: 2000 } },
    },
    FAST,
  );
  await me.until(id, ({ data }) => (data.outflows?.length ?? 0) > 0).catch(() => undefined);
  const mining = setInterval(() => void me.sandbox('blocks', { count: 1 }), 50);
  assert.equal((await sending).status, 'completed');
  clearInterval(mining);
  const listed = await server.sdk.getPayments({
    organization_id,
    environment_id,
    statuses: ['completed'],
    limit: 10,
  });
  assert.equal(listed.total, 3);
  const ledger = await server.sdk.getWalletLedger({ organization_id, wallet_id });
  const items = ledger.items as { type: string; amount?: { amount: number } }[];
  const sum = (type: string) =>
    items.filter((item) => item.type === type).reduce((all, { amount }) => all + (amount?.amount ?? 0), 0);
  const total = sum('credited') - sum('captured');
  assert.equal((await me.balance()).total, total);
  const history = await server.sdk.getPaymentHistory({ organization_id, environment_id, payment_id: id });
  assert.equal(history.events.at(-1)?.event_type, 'completed');
});

test('the official client quotes, receives $10.00 exactly and pays a bitcoin invoice from dollars', async () => {
  const { organization_id, environment_id } = scope();
  const { usd, network } = server.credentials;
  assert.ok(usd);
  const base = `/organizations/${organization_id}/environments/${environment_id}`;
  const http = server.sdk.getHttpClient();
  await http.put(`${base}/sandbox/rate`, { rate: '6500000e0' });
  // The client has no operation for quotes; its transport has.
  const quote = async (amount: object, to: string): Promise<string> => {
    const id = randomUUID();
    const { line_of_credit_id } = usd;
    await http.post(`${base}/quotes`, { id, line_of_credit_id, network, amount, to });
    const { data } = await http.get<{ quote: object | null; error: object | null }>(`${base}/quotes/${id}`);
    assert.ok(data.quote && data.error === null);
    return id;
  };
  interface Exchanged {
    status: string;
    exchanges: { from_amount: object; to_amount: object }[];
  }
  const { wallet_id } = usd;
  const cents = { currency: 'usd', amount: 1000 };
  const asked = { wallet_id, amount: cents, payment_kind: 'bolt11', quote_id: await quote(cents, 'btc') };
  const receive = await server.sdk.createPaymentRequest({ ...scope(), payment: asked as never }, FAST);
  await me.sandbox('payments', {
    payment_request: (receive.data as { payment_request: string }).payment_request,
  });
  await me.ended(receive.id ?? '');
  const received = await server.sdk.getPayment({ ...scope(), payment_id: receive.id ?? '' });
  assert.deepEqual((received as unknown as Exchanged).exchanges[0]?.from_amount, { ...cents, unit: 'cents' });
  assert.deepEqual(await me.balance(wallet_id), { available: 1000, total: 1000, holds: 0 });
  const msats = { currency: 'btc', amount: 1_500_000 };
  const { payment_request } = await me.outsideInvoice({ amount_msats: msats.amount });
  const sending = {
    wallet_id,
    currency: 'usd',
    type: 'bolt11',
    data: { payment_request, amount: msats },
    quote_id: await quote(msats, 'usd'),
  };
  const sent = await server.sdk.sendPayment({ ...scope(), payment: sending as never }, FAST);
  assert.equal(sent.status, 'completed');
  assert.deepEqual((sent as unknown as Exchanged).exchanges[0]?.to_amount, {
    currency: 'usd',
    amount: 98,
    unit: 'cents',
  });
  assert.equal((await me.balance(wallet_id)).total, 902);
});

test('the official client sees a refusal as an error with its status', async () => {
  const wrong = server.sdk.getPayment({ ...scope(), payment_id: randomUUID() });
  await assert.rejects(
    wrong,
    (error: unknown) => error instanceof VoltageApiError && (error as { status?: number }).status === 404,
  );
});
