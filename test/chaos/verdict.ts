import assert from 'node:assert/strict';
import { decodeInvoice } from '../../src/lightning/bolt11.ts';
import type { Shown } from '../actor.ts';
import { auditClean } from '../fixtures.ts';
import { driftOf } from '../regtest/fixture.ts';
import { eventually } from '../wait.ts';
import type { NodePayment } from '../regtest/lnd.ts';
import { endForgotten, paymentsOf } from './forgotten.ts';
import type { Load, Story } from './load.ts';
import type { World } from './world.ts';

const UNDER_WAY = ['generating', 'approved', 'sending'];
const BLOCK_EVERY = 5;
const LOOK_EVERY = 20;
/** lnd's limit for outputs of HTLCs in channels with anchors. */
const DUST_MSATS = 354_000n;
/** Enough blocks for HTLCs in a channel that works no more: they time out on the chain, some 50 blocks after they were made. */
const ENDING_MS = 600_000;

/** The payment as the server shows it; null where the server never took it. */
async function shown(world: World, story: Story): Promise<Shown | null> {
  const client = await world.anyClient();
  const found = await client.find(story.id);
  if (story.accepted === true) assert.ok(found, `${story.what} ${story.id} was accepted and is gone`);
  return found;
}

/** Mines and waits until nothing is under way. */
async function allEnded(world: World, load: Load): Promise<{ ended: Map<Story, Shown>; by_hand: number }> {
  const open = new Set(load.stories);
  const ended = new Map<Story, Shown>();
  let by_hand = 0;
  let asked = 0;
  await eventually(
    async () => {
      // Not so fast that HTLCs time out which only wait for their node.
      if (asked++ % BLOCK_EVERY === 0) await world.net.chain.mine(1);
      for (const story of open) {
        const payment = await shown(world, story);
        if (payment && UNDER_WAY.includes(payment.status)) continue;
        open.delete(story);
        if (payment) ended.set(story, payment);
      }
      if (open.size > 0 && asked % LOOK_EVERY === 0) by_hand += await endForgotten(world, open);
      assert.equal(open.size, 0, `payments have not ended: ${await told(world, [...open])}`);
    },
    ENDING_MS,
    1000,
  );
  return { ended, by_hand };
}

/** What ledger and node know of payments that do not end. */
async function told(world: World, stories: readonly Story[]): Promise<string> {
  const rows = await world.db.query(
    `SELECT p.id, p.state, p.payment_hash, j.kind, j.run_at, j.worker, j.attempts, now() AS now
     FROM payments p LEFT JOIN jobs j ON j.payment_id = p.id WHERE p.id = ANY($1) LIMIT 5`,
    [stories.map(({ id }) => id)],
  );
  const ours = await paymentsOf(world.net.ours);
  const [hash] = stories.flatMap(({ payment_hash }) => payment_hash ?? []);
  const invoice =
    hash && (await world.net.carol.ask('lookupInvoice', { r_hash: Buffer.from(hash, 'hex') }).catch(String));
  const channels = await world.net.bob.ask('listChannels');
  const pending = await world.net.bob.ask('pendingChannels');
  return JSON.stringify(
    {
      stories: stories.slice(0, 5),
      rows,
      payments: stories.map(({ payment_hash }) => ours.get(payment_hash ?? '')),
      invoice,
      channels,
      pending,
    },
    (_key, value: unknown) =>
      typeof value === 'bigint' ? String(value) : value instanceof Uint8Array ? undefined : value,
    1,
  );
}

const wasPaid = (payments: Map<string, NodePayment[]>, hash: string): boolean =>
  (payments.get(hash) ?? []).some(({ status }) => status === 'SUCCEEDED');

/**
 * Whether the payee settled what never reached her: an HTLC too small for an output of its own, in a channel that is
 * gone. Closed by force, it goes to the miners, and whoever forwarded it fails it back.
 */
async function diedAsDust(carol: World['net']['carol'], hash: string): Promise<boolean> {
  const { htlcs } = await carol.ask<{ htlcs: { chan_id: string; amt_msat: string }[] }>('lookupInvoice', {
    r_hash: Buffer.from(hash, 'hex'),
  });
  const { channels } = await carol.ask<{ channels: { chan_id: string }[] }>('listChannels');
  return htlcs.every(
    ({ chan_id, amt_msat }) =>
      BigInt(amt_msat) < DUST_MSATS && !channels.some((channel) => channel.chan_id === chan_id),
  );
}

/** Every send ended as the node and the payee say, once, at the node's own fee. */
async function sendsAreTrue(world: World, ended: Map<Story, Shown>): Promise<void> {
  const ours = await paymentsOf(world.net.ours);
  const byHash = Map.groupBy(
    [...ended].filter(([story]) => story.direction === 'send' && story.payment_hash !== undefined),
    ([story]) => story.payment_hash ?? '',
  );
  for (const [hash, sends] of byHash) {
    const completed = sends.filter(([, { status }]) => status === 'completed');
    const name = sends.map(([{ what, id }]) => `${what} ${id}`).join(', ');
    assert.equal(completed.length, wasPaid(ours, hash) ? 1 : 0, `${name}: as the node says`);
    const settled = (await world.net.carol.invoiceState(hash)) === 'SETTLED';
    if ((completed.length === 1) !== settled && !(settled && (await diedAsDust(world.net.carol, hash)))) {
      const about = await told(
        world,
        sends.map(([story]) => story),
      );
      assert.fail(`${name}: ${settled ? '' : 'not '}settled, as the payee says; ${about}`);
    }
    const [paid] = completed;
    if (!paid) continue;
    const fee = (ours.get(hash) ?? []).find(({ status }) => status === 'SUCCEEDED')?.fee_msat;
    assert.equal(String(paid[1].data.fees?.amount ?? 0), fee, `${name}: the node's fee`);
  }
}

/** Whoever paid us is credited: from outside, or inside, and one invoice by one of them only. */
async function receivesAreTrue(world: World, ended: Map<Story, Shown>): Promise<void> {
  const carol = await paymentsOf(world.net.carol);
  const inside = new Set(
    [...ended.values()]
      .filter(({ direction, status }) => direction === 'send' && status === 'completed')
      .flatMap(({ data }) => data.payment_request ?? []),
  );
  for (const [story, payment] of ended) {
    if (story.direction !== 'receive' || !payment.data.payment_request) continue;
    const outside = wasPaid(carol, decodeInvoice(payment.data.payment_request).payment_hash);
    const within = inside.has(payment.data.payment_request);
    assert.ok(!(outside && within), `${story.what} ${story.id} was paid from both sides`);
    assert.equal(
      payment.status === 'completed',
      outside || within,
      `${story.what} ${story.id} ${payment.status}`,
    );
  }
}

/** What the wallets have is what was deposited, and what every payment says it moved. */
async function moneyAddsUp(world: World, ended: Map<Story, Shown>): Promise<void> {
  let expected = world.deposited;
  for (const payment of ended.values()) {
    if (payment.status !== 'completed') continue;
    const moved = BigInt(payment.data.amount.amount) + BigInt(payment.data.fees?.amount ?? 0);
    expected += payment.direction === 'receive' ? moved : -moved;
  }
  const client = await world.anyClient();
  let total = 0n;
  for (const wallet of world.wallets) {
    const balance = await client.balance(wallet);
    assert.equal(balance.holds, 0, 'no hold is left');
    total += BigInt(balance.total);
  }
  assert.equal(total, expected, 'the wallets have what their payments say');
}

export interface Judgement {
  /** How many payments of each kind ended how. */
  ends: Map<string, number>;
  /** Of them, sends that our node had forgotten and an operator had to end. */
  by_hand: number;
  drift: bigint;
}

/** Holds everything that happened against the node, the payees and the ledger; throws at the first difference. */
export async function judge(world: World, load: Load): Promise<Judgement> {
  const { ended, by_hand } = await allEnded(world, load);
  await sendsAreTrue(world, ended);
  await receivesAreTrue(world, ended);
  await moneyAddsUp(world, ended);
  let drift = 0n;
  await eventually(
    async () => {
      await world.net.synced();
      drift = await driftOf({ base_url: world.base_url() });
      assert.equal(drift, 0n, 'node and ledger agree');
    },
    60_000,
    1000,
  );
  await auditClean(world.db);
  const ends = new Map<string, number>();
  for (const [{ what }, { status }] of ended) {
    const key = `${what}: ${status}`;
    ends.set(key, (ends.get(key) ?? 0) + 1);
  }
  return { ends, by_hand, drift };
}
