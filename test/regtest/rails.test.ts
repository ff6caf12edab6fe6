import assert from 'node:assert/strict';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { moveFunds } from '../../src/admin/operator.ts';
import { loadConfig } from '../../src/config.ts';
import { actor } from '../actor.ts';
import { createClient } from '../client.ts';
import { createTestDatabase } from '../database.ts';
import { auditClean, newTenant, spawnServer, type TestServer } from '../fixtures.ts';
import { realActor, ready, startRealServer, driftOf } from './fixture.ts';
import { CHANNEL_SATS, startNetwork, tools, type RegtestNetwork } from './network.ts';
import { eventually } from '../wait.ts';

const found = await tools;
const skip = 'missing' in found ? found.missing : false;

let net: RegtestNetwork;
let server: TestServer;
let me: ReturnType<typeof realActor>;

const preimage = (): { preimage: Buffer; hash: Buffer } => {
  const secret = randomBytes(32);
  return { preimage: secret, hash: createHash('sha256').update(secret).digest() };
};
const btc = (amount: number) => ({ currency: 'btc', amount });
const onchain = { type: 'onchain' };
const CAP = btc(20_000_000);

/** A test on the network; skipped, with the reason, where there is none. */
const rail = (name: string, work: () => Promise<void>): void => void test(name, { skip }, work);

before(async () => {
  if (skip !== false) return;
  net = await startNetwork();
  server = await startRealServer(net);
  me = realActor(server, net);
  await me.fund(1_500_000_000);
});
after(async () => {
  if (skip !== false) return;
  await server.stop();
  await net.stop();
});
/** Nothing moves: node and ledger agree to the msat, and so do all sums. */
const atRest = async (): Promise<void> => {
  await eventually(async () => assert.equal(await driftOf(server), 0n), 20_000, 200);
  await auditClean(server.db);
};

rail('receives bolt11: fixed, any amount, and nothing after expiry', async () => {
  const before_msats = (await me.balance()).total;
  await me.fund(123_456);
  const any = await me.receive({ amount: undefined });
  await net.carol.pay(any.data.payment_request ?? '', 777_001n);
  assert.equal((await me.ended(any.id)).data.amount.amount, 777_001);
  const short = await me.receive({ expiration: 1 });
  assert.equal((await me.ended(short.id)).status, 'expired');
  await assert.rejects(net.carol.pay(short.data.payment_request ?? ''), /expired/);
  assert.equal((await me.balance()).total, before_msats + 123_456 + 777_001);
  await atRest();
});

rail('sends bolt11: fixed and amountless, with the real fee and a preimage that fits the hash', async () => {
  for (const given of [250_000_001n, undefined]) {
    const invoice = await net.carol.invoice(given === undefined ? {} : { amount_msats: given });
    const data = {
      payment_request: invoice.payment_request,
      ...(given === undefined ? { amount: btc(5_000_003) } : {}),
    };
    const sent = await me.send(data);
    assert.equal(sent.status, 'completed', JSON.stringify(sent.error));
    const [outflow] = sent.data.outflows ?? [];
    const hash = createHash('sha256')
      .update(Buffer.from(outflow?.data.preimage ?? '', 'hex'))
      .digest('hex');
    assert.equal(hash, invoice.payment_hash);
    assert.ok((sent.data.fees?.amount ?? 0) > 0, 'bob takes his fee');
  }
  await atRest();
});

rail('threat 5: a route at cap + 1 msat fails, at the cap it is paid', async () => {
  // Too small for lnd to split: a part on its way would have to time out at the payee first.
  const amount_msats = 15_000_000n;
  const first = await me.send({
    payment_request: (await net.carol.invoice({ amount_msats })).payment_request,
  });
  const fee = first.data.fees?.amount ?? 0;
  assert.ok(fee > 1);
  const below = await me.send({
    payment_request: (await net.carol.invoice({ amount_msats })).payment_request,
    max_fee: btc(fee - 1),
  });
  assert.deepEqual(
    [below.status, below.error?.type, below.error?.code],
    ['failed', 'send_failed', 'no_route'],
  );
  const at = await me.send({
    payment_request: (await net.carol.invoice({ amount_msats })).payment_request,
    max_fee: btc(fee),
  });
  assert.deepEqual([at.status, at.data.fees?.amount], ['completed', fee]);
  await atRest();
});

rail('what cannot be paid ends failed, and its hold is released', async () => {
  const { available } = await me.balance();
  const paid = await net.carol.invoice({ amount_msats: 1_000_000n });
  assert.equal((await net.bob.pay(paid.payment_request)).status, 'SUCCEEDED');
  const already = await me.send({ payment_request: paid.payment_request });
  assert.deepEqual([already.status, already.error?.code], ['failed', 'invalid_bolt11_invoice']);
  const twice = await net.carol.invoice({ amount_msats: 1_000_000n });
  const once = await me.send({ payment_request: twice.payment_request });
  const again = await me.send({ payment_request: twice.payment_request });
  assert.deepEqual(
    [once.status, again.status, again.error?.code],
    ['completed', 'failed', 'invalid_bolt11_invoice'],
  );
  const spent = available - (await me.balance()).available;
  assert.equal(spent, 1_000_000 + (once.data.fees?.amount ?? 0));
  // More than all channels have: the wallet has it, the node has not.
  await moveFunds(server.db, 'deposit', server.credentials.wallet_id, 20_000_000_000n);
  const large = await net.carol.invoice({ amount_msats: 12_000_000_000n });
  const lacking = await me.send({ payment_request: large.payment_request });
  assert.deepEqual([lacking.status, lacking.error?.code], ['failed', 'no_route']);
  await moveFunds(server.db, 'withdraw', server.credentials.wallet_id, 20_000_000_000n);
  await atRest();
});

rail('an invoice of another network and one that has expired are refused', async () => {
  const expired = await net.carol.invoice({ amount_msats: 1000n, expiry: 1 });
  await new Promise((done) => setTimeout(done, 1500));
  const late = await me.create(me.sendBody({ payment_request: expired.payment_request }));
  assert.deepEqual(
    [late.status, (late.body as { error: { type: string } }).error.type],
    [400, 'invalid_bolt11_payment_request'],
  );
  const elsewhere = await me.create(
    me.sendBody({ address: 'tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx', amount: btc(1_000_000) }, onchain),
  );
  assert.deepEqual(
    [elsewhere.status, (elsewhere.body as { error: { type: string } }).error.type],
    [400, 'invalid_network'],
  );
});

rail('a payee that is offline fails the send', async () => {
  const invoice = await net.carol.invoice({ amount_msats: 1_000_000n });
  await net.carol.kill();
  const sent = await me.send({ payment_request: invoice.payment_request });
  assert.equal(sent.status, 'failed');
  assert.equal(sent.error?.code, 'no_route');
  await net.carol.start();
  await net.carol.connect(net.bob);
  await eventually(async () => {
    const channels = await net.bob.channels();
    assert.equal(channels.filter(({ active }) => active).length, 3);
  });
  // Our node remembers that the way to carol did not work.
  await net.ours.ask('resetMissionControl', {}, 'router');
  await atRest();
});

rail('a held payment stays approved with its hold until the payee settles or cancels', async () => {
  const first = preimage();
  const held = await net.carol.holdInvoice(first.preimage, first.hash, 30_000_000n);
  const { total } = await me.balance();
  const id = await me.accept(me.sendBody({ payment_request: held.payment_request }));
  await eventually(async () => assert.equal(await net.carol.invoiceState(held.payment_hash), 'ACCEPTED'));
  assert.equal((await me.get(id)).status, 'approved');
  assert.deepEqual([(await me.balance()).total, (await me.balance()).holds], [total, 1]);
  await held.settle();
  const settled = await me.ended(id);
  assert.equal(settled.status, 'completed');
  const second = preimage();
  const dropped = await net.carol.holdInvoice(second.preimage, second.hash, 30_000_000n);
  const other = await me.accept(me.sendBody({ payment_request: dropped.payment_request }));
  await eventually(async () => assert.equal(await net.carol.invoiceState(dropped.payment_hash), 'ACCEPTED'));
  await dropped.cancel();
  assert.deepEqual([(await me.ended(other)).status, (await me.balance()).holds], ['failed', 0]);
  await atRest();
});

rail('on-chain in: seen, credited at its confirmation, partial, excess, two outputs at once', async () => {
  const receive = await me.receive({ payment_kind: 'onchain', amount: btc(100_000_000) });
  const address = receive.data.address ?? '';
  assert.match(address, /^bcrt1q/);
  const { total } = await me.balance();
  await net.chain.pay({ address, amount_sats: 40_000n });
  const seen = await me.until(receive.id, (payment) => (payment.data.receipts ?? []).length === 1);
  assert.deepEqual([seen.status, seen.data.receipts?.[0]?.data.is_pending], ['receiving', true]);
  await net.mine();
  await me.until(receive.id, (payment) => payment.data.receipts?.[0]?.data.is_pending === false);
  assert.equal((await me.get(receive.id)).status, 'receiving');
  await net.chain.pay({ address, amount_sats: 35_000n }, { address, amount_sats: 36_000n });
  await net.mine();
  assert.equal((await me.ended(receive.id)).status, 'completed');
  assert.equal((await me.balance()).total, total + 111_000_000);
  await atRest();
});

rail('on-chain in: a payment replaced before it confirmed is forgotten', async () => {
  const receive = await me.receive({ payment_kind: 'onchain', amount: btc(50_000_000) });
  const { total } = await me.balance();
  const paid = await net.chain.pay({ address: receive.data.address ?? '', amount_sats: 50_000n });
  await me.until(receive.id, (payment) => (payment.data.receipts ?? []).length === 1);
  await net.chain.replace(paid);
  await net.mine();
  const left = await me.until(receive.id, (payment) => (payment.data.receipts ?? []).length === 0);
  assert.equal(left.status, 'receiving');
  assert.equal((await me.balance()).total, total);
  await atRest();
});

rail('on-chain in: a payment reorganized away after its credit is frozen and raised', async () => {
  const receive = await me.receive({ payment_kind: 'onchain', amount: btc(60_000_000) });
  const paid = await net.chain.pay({ address: receive.data.address ?? '', amount_sats: 60_000n });
  await net.mine();
  assert.equal((await me.ended(receive.id)).status, 'completed');
  await net.chain.reorg(1, [paid]);
  await net.synced();
  const frozen = await me.until(receive.id, (payment) => (payment.frozen ?? []).length === 1);
  assert.equal(frozen.status, 'completed');
  assert.equal(frozen.frozen?.[0]?.data.tx_id, paid.tx_id);
  const raised = await server.db.query(`SELECT 1 FROM attention WHERE kind = 'frozen'`);
  assert.equal(raised.length, 1);
  await atRest();
});

rail(
  'on-chain out: shown from broadcast, captured at its confirmation with the fee that the chain took',
  async () => {
    const address = await net.carol.address();
    const { total } = await me.balance();
    const id = await me.accept(me.sendBody({ address, amount: btc(70_000_000), max_fee: CAP }, onchain));
    const out = await me.until(id, (payment) => (payment.data.outflows ?? []).length === 1);
    assert.equal(out.data.outflows?.[0]?.data.is_pending, true);
    const tx_id = out.data.outflows?.[0]?.data.tx_id ?? '';
    await eventually(async () => assert.ok((await net.chain.mempool()).includes(tx_id)));
    await net.mine();
    const done = await me.ended(id);
    assert.equal(done.status, 'completed');
    assert.equal((await me.balance()).total, total - 70_000_000 - (done.data.fees?.amount ?? 0));
    const { transactions } = await net.ours.ask<{ transactions: { tx_hash: string; label: string }[] }>(
      'getTransactions',
      { start_height: 0, end_height: -1 },
    );
    assert.ok(
      transactions.find(({ tx_hash }) => tx_hash === tx_id)?.label.includes(id),
      'found by its label',
    );
    await atRest();
  },
);

rail('on-chain out: a fee above the cap is refused with what it would have cost', async () => {
  const address = await net.carol.address();
  const failed = await me.send({ address, amount: btc(70_000_000), max_fee: btc(1000) }, onchain);
  assert.deepEqual([failed.status, failed.error?.code], ['failed', 'broadcast_fee_above_max']);
  const leases = await net.ours.ask<{ locked_utxos: unknown[] }>('listLeases', {}, 'wallet');
  assert.equal(leases.locked_utxos.length, 0, 'nothing stays reserved');
  await atRest();
});

rail('bip21: paid over Lightning, and by address; both for one order shows the excess', async () => {
  const receive = await me.receive({ payment_kind: 'bip21', amount: btc(80_000_000) });
  const { total } = await me.balance();
  assert.equal((await net.carol.pay(receive.data.payment_request ?? '')).status, 'SUCCEEDED');
  assert.equal((await me.ended(receive.id)).status, 'completed');
  await net.chain.pay({ address: receive.data.address ?? '', amount_sats: 80_000n });
  await net.mine();
  const both = await me.until(
    receive.id,
    ({ data }) => data.receipts?.length === 2 && data.receipts.every((receipt) => !receipt.data.is_pending),
  );
  assert.equal(both.status, 'completed');
  assert.equal((await me.balance()).total, total + 160_000_000);
  const invoice = await net.carol.invoice({ amount_msats: 9_000_000n });
  const uri = `bitcoin:${await net.carol.address()}?amount=0.00009&lightning=${invoice.payment_request}`;
  const sent = await me.send({ address: uri }, { type: 'bip21' });
  assert.equal(sent.status, 'completed');
  await atRest();
});

rail('two wallets on the same node settle inside, and the invoice is cancelled at the node', async () => {
  const other = await me.newWallet();
  const receive = await me.receive({ wallet_id: other, amount: btc(11_000_000) });
  const sent = await me.send({ payment_request: receive.data.payment_request });
  assert.deepEqual([sent.status, sent.data.fees?.amount], ['completed', 0]);
  assert.equal(sent.data.outflows?.[0]?.type, 'shortcircuit');
  assert.equal((await me.balance(other)).total, 11_000_000);
  await assert.rejects(async () => {
    const paid = await net.carol.pay(receive.data.payment_request ?? '');
    if (paid.status !== 'SUCCEEDED') throw new Error(paid.failure_reason);
  });
  await atRest();
});

rail('a large payment takes both channels at once', async () => {
  // Part of the operator's capital in the channels becomes the wallet's.
  await moveFunds(server.db, 'deposit', server.credentials.wallet_id, BigInt(CHANNEL_SATS) * 1000n);
  const largest = Math.max(...(await net.ours.channels()).map(({ local_balance }) => Number(local_balance)));
  const needed = (largest + 50_000) * 1000;
  const invoice = await net.carol.invoice({ amount_msats: BigInt(needed) });
  const sent = await me.send({ payment_request: invoice.payment_request });
  assert.equal(sent.status, 'completed', JSON.stringify(sent.error));
  await atRest();
});

/** A nodes file with one entry, changed. */
function nodesFile(name: string, fields: object): string {
  const [entry] = JSON.parse(readFileSync(net.nodes_file, 'utf8')) as object[];
  const path = join(net.folder, name);
  writeFileSync(path, JSON.stringify([{ ...entry, ...fields }]));
  return path;
}

/** A macaroon that allows these methods, as `lncli bakemacaroon uri:…` makes it. */
async function bake(name: string, methods: readonly string[]): Promise<string> {
  const { macaroon } = await net.ours.ask<{ macaroon: string }>('bakeMacaroon', {
    permissions: methods.map((action) => ({ entity: 'uri', action })),
    allow_external_permissions: true,
  });
  const path = join(net.folder, name);
  writeFileSync(path, Buffer.from(macaroon, 'hex'));
  return path;
}

const METHODS = [
  ...readFileSync(new URL('../../README.md', import.meta.url), 'utf8').matchAll(/ uri:(\S+)/g),
].map(([, method]) => method ?? '');

rail("threat 15: README's macaroon suffices and is in no log, what it lacks is told by name", async () => {
  const database = await createTestDatabase();
  try {
    const macaroon_file = await bake('whole.macaroon', METHODS);
    const environment = { COULOMB_NODES_FILE: nodesFile('whole.json', { macaroon_file }) };
    const started = await spawnServer(database.url, { ...environment, COULOMB_LOG_LEVEL: 'trace' });
    await ready(started);
    await started.kill('SIGTERM');
    // The head is the same whatever caveats are added.
    const head = readFileSync(macaroon_file).subarray(0, 48);
    for (const as of ['hex', 'base64'] as const) assert.ok(!started.output().includes(head.toString(as)));
    const less = METHODS.filter((method) => !method.endsWith('/SendPaymentV2'));
    const lacking = nodesFile('lacking.json', { macaroon_file: await bake('lacking.macaroon', less) });
    await assert.rejects(
      spawnServer(database.url, { COULOMB_NODES_FILE: lacking }),
      /node ours: its macaroon does not allow \/routerrpc\.Router\/SendPaymentV2/,
    );
    const elsewhere = nodesFile('elsewhere.json', { network: 'mainnet' });
    await assert.rejects(
      spawnServer(database.url, { COULOMB_NODES_FILE: elsewhere }),
      /node ours: it is on regtest, which does not serve mainnet/,
    );
  } finally {
    await database.drop();
  }
});

rail(
  'a node that is away is not fatal: payments are accepted and wait, readiness tells, the sandbox goes on',
  async () => {
    const database = await createTestDatabase();
    const away = nodesFile('away.json', { id: 'away', socket: '127.0.0.1:1' });
    const environment = { COULOMB_NODES_FILE: away };
    const started = await spawnServer(database.url, environment);
    try {
      const credentials = await newTenant(database.db, 'testnet3', loadConfig(environment).nodes);
      const client = createClient(started.base_url, credentials.api_key);
      const mine = actor({ ...server, credentials, client, base_url: started.base_url });
      const body = {
        id: randomUUID(),
        wallet_id: credentials.wallet_id,
        payment_kind: 'bolt11',
        amount: btc(1000),
        expiration: 1,
      };
      await mine.accept(body);
      assert.equal((await mine.get(body.id)).status, 'generating');
      const answer = await fetch(new URL('/readyz', started.base_url));
      assert.deepEqual([answer.status, /node away/.test(await answer.text())], [503, true]);
      const ended = await mine.ended(body.id);
      assert.deepEqual(
        [ended.status, ended.error?.type, ended.error?.code],
        ['failed', 'receive_failed', 'upstream_failure'],
      );
      await auditClean(database.db);
    } finally {
      await started.kill('SIGTERM');
      await database.drop();
    }
  },
);
