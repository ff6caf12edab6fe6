import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { addLine } from '../../src/admin/operator.ts';
import { loadConfig } from '../../src/config.ts';
import { dollars } from '../dollars.ts';
import { auditClean, type TestServer } from '../fixtures.ts';
import { driftOf, realActor, startRealServer } from './fixture.ts';
import { startNetwork, tools, type RegtestNetwork } from './network.ts';
import { eventually } from '../wait.ts';

// Dollars over a real node, at the median of sources that this machine plays.
const found = await tools;
const skip = 'missing' in found ? found.missing : false;

let price = '65000.00';
const source = createServer((request, response) => {
  const kraken = { error: [], result: { XXBTZUSD: { c: [price, '1'] } } };
  const coinbase = { data: { amount: price, base: 'BTC', currency: 'USD' } };
  response.end(JSON.stringify(request.url?.startsWith('/0/public') === true ? kraken : coinbase));
});

let net: RegtestNetwork;
let server: TestServer;
let me: ReturnType<typeof realActor>;
let my: ReturnType<typeof dollars>;
before(async () => {
  if (skip !== false) return;
  await new Promise<void>((done) => source.listen(0, '127.0.0.1', done));
  const base = `http://127.0.0.1:${(source.address() as AddressInfo).port}`;
  net = await startNetwork();
  const sources = `kraken=${base},coinbase=${base}`;
  server = await startRealServer(net, { COULOMB_RATE_SOURCES: sources, COULOMB_RATE_MAX_AGE_SECONDS: '6' });
  const { organization_id, environment_id, network } = server.credentials;
  const line = { organization_id, environment_id, network, currency: 'usd', limit: 0n };
  const { nodes } = loadConfig({ COULOMB_NODES_FILE: net.nodes_file });
  const line_of_credit_id = await addLine(server.db, line, nodes);
  const id = randomUUID();
  const body = { id, environment_id, line_of_credit_id, name: 'dollars', network, limit: 0 };
  const answer = await server.client.request('POST', `/organizations/${organization_id}/wallets`, { body });
  assert.equal(answer.status, 202, answer.text);
  server.credentials.usd = { line_of_credit_id, wallet_id: id };
  me = realActor(server, net);
  my = dollars({ ...server, credentials: { ...server.credentials, network: 'testnet' } }, me);
  await eventually(async () => assert.equal((await my.askQuote(my.usd(5), 'btc')).answer.status, 202));
});
after(async () => {
  source.closeAllConnections();
  source.close();
  if (skip !== false) return;
  await server.stop();
  await net.stop();
});
const cents = async () => (await me.balance(my.wallet_id)).total;
const atRest = async (): Promise<void> => {
  await eventually(async () => assert.equal(await driftOf(server), 0n), 20_000, 200);
  await auditClean(server.db);
};

test(
  '$10.00 are received over Lightning and on-chain, and spent again, to the cent and to the msat',
  { skip },
  async () => {
    await eventually(async () =>
      assert.notEqual((await my.readQuote((await my.askQuote(my.usd(5), 'btc')).id)).quote, null),
    );
    const receive = await my.receive(1000);
    assert.equal(receive.data.amount_msats, 15_385_000);
    await net.carol.pay(receive.data.payment_request ?? '');
    assert.equal((await me.ended(receive.id)).status, 'completed');
    assert.equal(await cents(), 1000);
    const onchain = await my.receive(1000, { payment_kind: 'onchain' });
    await net.chain.pay({ address: onchain.data.address ?? '', amount_sats: 15_385n });
    await net.chain.mine(1);
    assert.equal((await me.ended(onchain.id)).status, 'completed');
    assert.equal(await cents(), 2000);
    const invoice = await net.carol.invoice({ amount_msats: 10_000_000n });
    const sent = await my.pay(10_000_000, { payment_request: invoice.payment_request });
    assert.equal(sent.status, 'completed', JSON.stringify(sent.error));
    // 650 cents, and bob's fee rounded up with them.
    const fee_msats = sent.data.fee_msats ?? 0;
    assert.equal(2000 - (await cents()), Math.ceil((10_000_000 + fee_msats) * 0.000065));
    await atRest();
  },
);

test('sources that fall silent fail quotes and nothing else', { skip }, async () => {
  price = 'none';
  const receive = await my.receive(500);
  await eventually(
    async () => {
      const { id, answer } = await my.askQuote(my.usd(5), 'btc');
      assert.equal(answer.status, 202);
      const quote = await my.readQuote(id);
      assert.deepEqual([quote.quote, quote.error?.type], [null, 'price']);
      assert.notEqual(quote.failed_at, null);
    },
    120_000,
    1000,
  );
  // What was quoted before goes on.
  await net.carol.pay(receive.data.payment_request ?? '');
  assert.equal((await me.ended(receive.id)).status, 'completed');
  price = '65000.00';
  await eventually(async () =>
    assert.notEqual((await my.readQuote((await my.askQuote(my.usd(5), 'btc')).id)).quote, null),
  );
  await atRest();
});
