import assert from 'node:assert/strict';
import { resolveByOperator } from '../../src/admin/operator.ts';
import type { Lnd, NodePayment } from '../regtest/lnd.ts';
import type { Story } from './load.ts';
import type { World } from './world.ts';

/** What a node says of its payments, by hash. */
export const paymentsOf = async (node: Lnd): Promise<Map<string, NodePayment[]>> =>
  Map.groupBy(await node.payments(), ({ payment_hash }) => payment_hash);

/** Whether no channel of a node has an HTLC, and none is being closed. */
async function holdsNothing(node: Lnd): Promise<boolean> {
  const { channels } = await node.ask<{ channels: { pending_htlcs: unknown[] }[] }>('listChannels');
  const pending = await node.ask<Record<string, unknown[]>>('pendingChannels');
  const closing = ['waiting_close_channels', 'pending_force_closing_channels'];
  return (
    channels.every(({ pending_htlcs }) => pending_htlcs.length === 0) &&
    closing.every((name) => pending[name]?.length === 0)
  );
}

/** The stories that our node calls in flight while none of its channels has an HTLC; the time lock of the last. */
async function inFlightNowhere({ net: { ours } }: World, stories: readonly Story[]) {
  if (!(await holdsNothing(ours))) return { lost: [], time_lock: 0 };
  const payments = await paymentsOf(ours);
  const known = stories.flatMap((story) =>
    (payments.get(story.payment_hash ?? '') ?? []).map((payment) => ({ story, payment })),
  );
  const lost = known.filter(({ payment: { status } }) => status === 'IN_FLIGHT');
  const time_locks = lost.flatMap(({ payment }) => payment.htlcs.map(({ route }) => route.total_time_lock));
  return { lost: lost.map(({ story }) => story), time_lock: Math.max(0, ...time_locks) };
}

/**
 * Ends, as an operator, the sends that our node will never end; says how many. An lnd that dies after it has written
 * an attempt down and before its HTLC is in a channel calls it in flight for ever (lightningnetwork/lnd, issue 5152).
 * The server waits with it, whatever comes. Who looks sees it: no channel has an HTLC, and its time lock is over.
 */
export async function endForgotten(world: World, open: Iterable<Story>): Promise<number> {
  const { lost, time_lock } = await inFlightNowhere(world, [...open]);
  if (lost.length === 0) return 0;
  const left = time_lock - (await world.net.chain.height());
  if (left >= 0) await world.net.mine(left + 1);
  // An attempt that was only about to begin has begun or ended meanwhile.
  let ended = 0;
  for (const { id, what, payment_hash = '' } of (await inFlightNowhere(world, lost)).lost) {
    assert.notEqual(await world.net.carol.invoiceState(payment_hash), 'SETTLED', `${what} ${id} was paid`);
    const [row] = await world.db.query<{ state: string }>('SELECT state FROM payments WHERE id = $1', [id]);
    if (row?.state !== 'dispatched') continue;
    await resolveByOperator(world.db, id, 'failed');
    ended += 1;
  }
  return ended;
}
