import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ConfigError, loadConfig } from '../src/config.ts';
import { sweepMinutes } from '../src/policies/usage.ts';
import { actor, type Shown } from './actor.ts';
import { spawnServer } from './fixtures.ts';
import { atEnd, openServer } from './setup.ts';
import { allowTreasury, setPolicies, through } from './tenant.ts';

// Addresses of the sandbox's chain that nobody here owns.
const LISTED = 'tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx';
const LISTED_LEGACY = 'mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn';

const clock = { moved_ms: 0, now: () => Date.now() + clock.moved_ms };
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

const folder = mkdtempSync(join(tmpdir(), 'coulomb-sanctions-'));
const file = join(folder, 'list.txt');
writeFileSync(
  file,
  `# who must not be paid\n\n${LISTED.toUpperCase()} # found in 2019\r\n${LISTED_LEGACY}\n`,
);
const { server, me } = await openServer({ COULOMB_SANCTIONS_FILE: file }, clock);
atEnd(() => rmSync(folder, { recursive: true }));

const LIMIT_MSATS = 20_000_000;
/** A wallet that lives on credit, with these policies. */
async function walletWith(policies: object): Promise<string> {
  const id = await me.newWallet(LIMIT_MSATS);
  await setPolicies(server, id, policies);
  return id;
}
/** Sends to somebody outside; answers how it ended. */
async function pay(wallet_id: string, amount_msats: number, invoice: object = {}): Promise<Shown> {
  const { payment_request } = await me.outsideInvoice({ amount_msats, ...invoice });
  return me.send({ payment_request }, { wallet_id });
}
const accepted = async (wallet_id: string, amount_msats: number, invoice: object = {}): Promise<boolean> => {
  const { error } = await pay(wallet_id, amount_msats, invoice);
  return error?.type !== 'rejected';
};

async function isRejected(payment: Shown): Promise<void> {
  assert.deepEqual(
    [payment.status, payment.error?.type],
    ['failed', 'rejected'],
    JSON.stringify(payment.error),
  );
  assert.equal(payment.error?.code, undefined, 'the type says it all');
  assert.deepEqual(await me.history(payment.id), ['requested', 'failed']);
}

describe('maximum payment size', () => {
  test('a send at the bound goes, one msat above is rejected before anything is held', async () => {
    const wallet = await walletWith({ max_payment_size_sats: 100 });
    assert.equal((await pay(wallet, 100_000)).status, 'completed');
    const before_it = await me.ledger(wallet);
    await isRejected(await pay(wallet, 100_001));
    assert.deepEqual(await me.ledger(wallet), before_it);
  });
  test('a fixed receive at the bound is made, one above fails before anything is generated', async () => {
    const wallet = await walletWith({ max_payment_size_sats: 100 });
    const receive = (amount: number) =>
      me.receive({ wallet_id: wallet, amount: { currency: 'btc', amount } });
    assert.equal((await receive(100_000)).status, 'receiving');
    const refused = await receive(100_001);
    assert.deepEqual(
      [refused.status, refused.error?.type, refused.error?.code],
      ['failed', 'receive_failed', 'rejected'],
    );
    assert.deepEqual(await me.history(refused.id), ['requested', 'failed']);
    assert.equal(refused.data.payment_request ?? null, null);
  });
  test('a receive of any amount is not judged, and nothing is after the policy is gone', async () => {
    const wallet = await walletWith({ max_payment_size_sats: 1 });
    const any = await me.receive({ wallet_id: wallet, amount: undefined, currency: 'btc' });
    assert.equal(any.status, 'receiving');
    await setPolicies(server, wallet, { max_payment_size_sats: null });
    assert.equal((await pay(wallet, 100_000)).status, 'completed');
  });
  test('a payment inside the deployment is judged on both sides', async () => {
    const [from, to] = [await walletWith({ max_payment_size_sats: 5 }), await me.newWallet()];
    const receive = await me.receive({ wallet_id: to, amount: { currency: 'btc', amount: 5001 } });
    const { payment_request } = receive.data;
    await isRejected(await me.send({ payment_request }, { wallet_id: from }));
    assert.equal(
      (await me.send({ payment_request })).error?.type,
      'hold_failed',
      'the invoice stays payable',
    );
  });
});

describe('sends per minute', () => {
  test('as many as the policy says in any 60 seconds, failed ones included, refused ones not', async () => {
    const wallet = await walletWith({ transactions_per_minute: 2, max_payment_size_sats: 1000 });
    assert.equal((await pay(wallet, 1000)).status, 'completed');
    await isRejected(await pay(wallet, 1_000_001));
    clock.moved_ms += MINUTE_MS / 2;
    assert.equal((await pay(wallet, 1000, { behavior: 'fail' })).error?.type, 'send_failed');
    await isRejected(await pay(wallet, 1000));
    clock.moved_ms += MINUTE_MS / 2;
    assert.ok(await accepted(wallet, 1000), 'the first is a minute old');
    await isRejected(await pay(wallet, 1000));
    clock.moved_ms += MINUTE_MS;
    assert.ok(await accepted(wallet, 1000));
  });
  test('receives do not count, and sends from before the policy do', async () => {
    const wallet = await me.newWallet(LIMIT_MSATS);
    assert.ok(await accepted(wallet, 1000));
    await setPolicies(server, wallet, { transactions_per_minute: 2 });
    await me.receive({ wallet_id: wallet });
    await me.receive({ wallet_id: wallet });
    assert.ok(await accepted(wallet, 1000));
    await isRejected(await pay(wallet, 1000));
  });
});

describe('volume of 24 hours', () => {
  test('the principal of sends adds up to the bound and no further; one that failed is given back', async () => {
    const wallet = await walletWith({ send_volume_limit_sats: 100 });
    assert.equal((await pay(wallet, 60_000, { fee_msats: 500 })).status, 'completed');
    assert.equal((await pay(wallet, 40_000, { behavior: 'fail' })).error?.type, 'send_failed');
    await isRejected(await pay(wallet, 40_001));
    assert.ok(await accepted(wallet, 40_000));
    await isRejected(await pay(wallet, 1));
  });
  test('what is still held counts', async () => {
    const wallet = await walletWith({ send_volume_limit_sats: 100 });
    const { payment_request, payment_hash } = await me.outsideInvoice({
      amount_msats: 60_000,
      behavior: 'stuck',
    });
    const stuck = await me.accept(me.sendBody({ payment_request }, { wallet_id: wallet }));
    await isRejected(await pay(wallet, 40_001));
    await me.release(payment_hash, 'fail');
    await me.ended(stuck);
    assert.ok(await accepted(wallet, 100_000));
  });
  test('the window rolls: to the very second, whatever minutes are counted in', async () => {
    const wallet = await walletWith({ send_volume_limit_sats: 100 });
    const first = await pay(wallet, 60_000);
    const at = Date.parse(first.created_at);
    clock.moved_ms += 20_000;
    const second = await pay(wallet, 30_000);
    const moveTo = (ms: number) => (clock.moved_ms += ms - clock.now());
    moveTo(at + DAY_MS - 10_000);
    await isRejected(await pay(wallet, 20_000));
    moveTo(at + DAY_MS + 1);
    assert.ok(await accepted(wallet, 70_000), 'the first is a day old, the second is not');
    await isRejected(await pay(wallet, 1000));
    moveTo(Date.parse(second.created_at) + DAY_MS + 1);
    assert.ok(await accepted(wallet, 30_000));
    await isRejected(await pay(wallet, 1));
  });
  test('sends from before the policy count, also when it was removed meanwhile', async () => {
    const wallet = await me.newWallet(LIMIT_MSATS);
    assert.ok(await accepted(wallet, 50_000));
    await setPolicies(server, wallet, { send_volume_limit_sats: 100 });
    assert.ok(await accepted(wallet, 20_000));
    await setPolicies(server, wallet, { send_volume_limit_sats: null });
    assert.ok(await accepted(wallet, 20_000));
    await setPolicies(server, wallet, { send_volume_limit_sats: 100 });
    await isRejected(await pay(wallet, 10_001));
    assert.ok(await accepted(wallet, 10_000));
    await setPolicies(server, wallet, { send_volume_limit_sats: 110 });
    assert.ok(await accepted(wallet, 10_000), 'a bound that is raised holds at once');
    await isRejected(await pay(wallet, 1));
  });
  test('minutes that count no more are swept, those of the day stay', async () => {
    const wallet = await walletWith({ send_volume_limit_sats: 100 });
    assert.ok(await accepted(wallet, 50_000));
    const minutes = async () =>
      (await server.db.query('SELECT FROM send_minutes WHERE wallet_id = $1', [wallet])).length;
    await sweepMinutes(server.db, clock);
    assert.equal(await minutes(), 1);
    clock.moved_ms += DAY_MS + 2 * 60 * MINUTE_MS;
    await sweepMinutes(server.db, clock);
    assert.equal(await minutes(), 0);
  });
});

describe('sanctions', () => {
  const onchain = (wallet_id: string, address: string) =>
    me.accept(
      me.sendBody(
        {
          address,
          amount: { currency: 'btc', amount: 600_000 },
          max_fee: { currency: 'btc', amount: 300_000 },
        },
        { wallet_id, type: 'onchain' },
      ),
    );
  const wasRejected = async (id: string): Promise<boolean> =>
    (await me.until(id, ({ status, data }) => status === 'failed' || (data.outflows ?? []).length > 0)).error
      ?.type === 'rejected';

  test('a listed address is not paid on-chain, however it is spelled; any other is', async () => {
    const wallet = await walletWith({ ofac_compliant: true });
    for (const address of [LISTED, LISTED.toUpperCase(), LISTED_LEGACY]) {
      const id = await onchain(wallet, address);
      await isRejected(await me.ended(id));
    }
    const { address } = await me.sandbox<{ address: string }>('addresses');
    assert.equal(await wasRejected(await onchain(wallet, address)), false);
    const free = await me.newWallet(LIMIT_MSATS);
    assert.equal(
      await wasRejected(await onchain(free, LISTED)),
      false,
      'only wallets with the policy refuse',
    );
  });
  test('a listed address in a BIP21 URI is not paid by its invoice either', async () => {
    const wallet = await walletWith({ ofac_compliant: true });
    const { payment_request } = await me.outsideInvoice({ amount_msats: 1000 });
    const uri = (address: string) => ({ address: `bitcoin:${address}?lightning=${payment_request}` });
    await isRejected(await me.send(uri(LISTED.toUpperCase()), { wallet_id: wallet, type: 'bip21' }));
    const { address } = await me.sandbox<{ address: string }>('addresses');
    const other = await me.send(uri(address), { wallet_id: wallet, type: 'bip21' });
    assert.equal(other.status, 'completed');
  });
  test('the policy reads back, and false removes it', async () => {
    const wallet = await walletWith({ ofac_compliant: true });
    const path = `/organizations/${server.credentials.organization_id}/wallets/${wallet}/policies`;
    const types = async () =>
      ((await server.client.request('GET', path)).body as { policies: { type: string }[] }).policies.map(
        ({ type }) => type,
      );
    assert.deepEqual(await types(), ['ofac_compliant']);
    await setPolicies(server, wallet, { ofac_compliant: false });
    assert.deepEqual(await types(), []);
    assert.equal(await wasRejected(await onchain(wallet, LISTED)), false);
  });
  test('a server without the list refuses every address for a wallet that must not pay listed ones', async () => {
    const wallet = await walletWith({ ofac_compliant: true });
    const without = await spawnServer(server.database_url);
    try {
      const there = actor(through(server, without));
      const { address } = await me.sandbox<{ address: string }>('addresses');
      const amount = { currency: 'btc', amount: 600_000 };
      const payment = await there.send({ address, amount }, { wallet_id: wallet, type: 'onchain' });
      await isRejected(payment);
      const { payment_request } = await me.outsideInvoice({ amount_msats: 1000 });
      assert.equal((await there.send({ payment_request }, { wallet_id: wallet })).status, 'completed');
    } finally {
      await without.kill('SIGTERM');
    }
  });
  test('a list that cannot be read, or has more than an address on a line, is a fault of the configuration', () => {
    const bad = join(folder, 'bad.txt');
    writeFileSync(bad, `${LISTED} ${LISTED_LEGACY}\n`);
    for (const [file, why] of [
      [join(folder, 'missing.txt'), /COULOMB_SANCTIONS_FILE cannot be read/],
      [bad, /COULOMB_SANCTIONS_FILE, line 1/],
    ] as const) {
      assert.throws(
        () => loadConfig({ COULOMB_SANCTIONS_FILE: file, COULOMB_PORT: 'x' }),
        (error) => error instanceof ConfigError && why.test(error.message) && error.message.includes('PORT'),
      );
    }
  });
});

describe('threat 19: parallel requests on two servers cannot exceed a limit', () => {
  const PARALLEL = 60;
  /** Sends in parallel through two server processes; answers how many were held. */
  async function race(policies: object, amount_msats: number): Promise<number> {
    const wallet_id = await walletWith(policies);
    // Its clock is not moved, so both are ordinary processes of one database.
    const spawned = await Promise.all([spawnServer(server.database_url), spawnServer(server.database_url)]);
    try {
      const actors = spawned.map((one) => actor(through(server, one)));
      const invoices = await Promise.all(
        Array.from({ length: PARALLEL }, () => me.outsideInvoice({ amount_msats, behavior: 'stuck' })),
      );
      const ids = await Promise.all(
        invoices.map(async ({ payment_request }, index) => {
          const one = actors[index % actors.length];
          assert.ok(one);
          return one.accept(one.sendBody({ payment_request }, { wallet_id }));
        }),
      );
      const ends = await Promise.all(ids.map((id) => me.get(id)));
      const refused = ends.filter(({ status }) => status === 'failed');
      for (const payment of refused) assert.equal(payment.error?.type, 'rejected');
      return ids.length - refused.length;
    } finally {
      await Promise.all(spawned.map((one) => one.kill('SIGTERM')));
    }
  }
  test('of the sends in a minute', async () => {
    assert.equal(await race({ transactions_per_minute: 7 }, 1000), 7);
  });
  test('of the volume of a day', async () => {
    assert.equal(await race({ send_volume_limit_sats: 50 }, 9000), 5);
  });
  test('of the size of a payment', async () => {
    assert.equal(await race({ max_payment_size_sats: 8 }, 8001), 0);
  });
});

test('treasury sends count like any other', async () => {
  await allowTreasury(server);
  const wallet_id = await walletWith({ transactions_per_minute: 1 });
  const { payment_request } = await me.outsideInvoice({ amount_msats: 1000 });
  const body = me.sendBody({ payment_request }, { wallet_id });
  const answer = await server.client.request('POST', `${me.base}/treasury_movements`, { body });
  assert.equal(answer.status, 202, answer.text);
  assert.equal((await me.ended(body.id)).status, 'completed');
  await isRejected(await pay(wallet_id, 1000));
});
