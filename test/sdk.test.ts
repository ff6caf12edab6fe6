import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { VoltageApiError } from 'voltage-api-sdk';
import { actor } from './actor.ts';
import { auditClean, startTestServer, type TestServer } from './fixtures.ts';

let server: TestServer;
let me: ReturnType<typeof actor>;
before(async () => {
  server = await startTestServer();
  me = actor(server);
});
after(async () => {
  await auditClean(server.db);
  await server.stop();
});

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

test('the official client sees a refusal as an error with its status', async () => {
  const wrong = server.sdk.getPayment({ ...scope(), payment_id: randomUUID() });
  await assert.rejects(
    wrong,
    (error: unknown) => error instanceof VoltageApiError && (error as { status?: number }).status === 404,
  );
});
