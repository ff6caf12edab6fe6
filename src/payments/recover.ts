import { applyOutcome, invoiceExpiry, pay } from './dispatch.ts';
import { advanceAll, later, PAUSE_MS, type Engine, type Step } from './engine.ts';
import { attentionRow, raiseAttention } from './records.ts';
import { creditInvoiceCommand, expireCommand, postponeCommand } from './receive.ts';
import { findTargets } from './store.ts';
import { failSendCommand, repeatCommand } from './settle.ts';
import { callKey, hashOf, isOnChain, refOf, sendFailed, type Payment, type PaymentRef } from './types.ts';
import type { LightningNode, SettledInvoice } from '../lightning/node.ts';
import { Superseded } from './writer.ts';

// What nobody was told of in time: sends whose call brought no end, invoices whose settlement was missed, receives whose
// time is up. Everything here asks the node first. A send is ended by the node's own word alone; that it does not answer, or
// answers anything else, leaves the send as it is, for as long as it takes (threats 3, 4 and 6).

/** How long after an invoice's expiry a send that the node never saw may be given up. */
const EXPIRY_MARGIN_MS = 10 * 60_000; // payee and node go by their own clocks

/** Asks the node about sends in flight, and ends those that it says have ended. */
export const track: Step = async (engine, node, payments) => {
  if (!node.reachable()) return engine.jobs.putBack(payments, PAUSE_MS.retry);
  const outcomes = await node.lookupPayments(payments.map(hashOf));
  const missing = payments.filter((_payment, index) => outcomes[index]?.state === 'not_found');
  await Promise.all(
    payments.map(async (payment, index) => {
      const outcome = outcomes[index];
      if (outcome && outcome.state !== 'not_found') await applyOutcome(engine, node, payment, outcome);
    }),
  );
  if (missing.length > 0) await resend(engine, node, missing);
};

/**
 * The node does not know these payments. That ends nothing: while its history is whole, and no earlier call can
 * arrive any more, they are sent again under the same hash, which it refuses to pay twice (semantics.md section 3).
 */
async function resend(engine: Engine, node: LightningNode, payments: readonly Payment[]): Promise<void> {
  await engine.histories.compare(node);
  const { epoch, index } = engine.histories.of(node.id);
  const lost = payments.filter(({ node_epoch }) => node_epoch !== null && node_epoch < epoch);
  const detail = { node_id: node.id, payment_index: index.toString() };
  await raiseAttention(
    engine.db,
    lost.map((payment) => attentionRow(payment, 'lost_history', detail)),
  );
  await engine.jobs.putBack(lost, PAUSE_MS.broadcast);
  const open = payments.filter((payment) => !lost.includes(payment));
  const free = open.filter((payment) => engine.calls.over(callKey(payment), node.call_window_ms));
  const waiting = open.filter((payment) => !free.includes(payment));
  await engine.jobs.putBack(waiting, PAUSE_MS.track);
  await sendAgain(engine, node, free);
}

/** Sends what no call can have reached the node for; what nobody would accept any more has failed. */
async function sendAgain(engine: Engine, node: LightningNode, payments: readonly Payment[]): Promise<void> {
  const now_ms = engine.clock.now();
  const over = payments.filter((payment) => invoiceExpiry(payment) + EXPIRY_MARGIN_MS < now_ms);
  const error = sendFailed('upstream_failure', 'the node never took the payment before its invoice expired');
  await advanceAll(engine, over, (payment) => failSendCommand(payment, error, ['dispatched'], payment.calls));
  const again = payments.filter((payment) => !over.includes(payment));
  const track_at = later(engine, PAUSE_MS.track);
  // Before the commits: what they take counts against the time within which the call has to leave.
  const decided_at = performance.now();
  const repeated = await advanceAll(engine, again, (payment) => repeatCommand(payment, track_at));
  pay(engine, node, repeated, decided_at);
}

/**
 * Credits settled invoices; those that are no payment of ours are left to whoever made them. Rejects when one
 * could not be booked, so that whoever told it tells it again.
 */
export async function creditSettled(
  engine: Engine,
  node: LightningNode,
  settled: readonly SettledInvoice[],
): Promise<void> {
  if (settled.length === 0) return;
  const targets = await findTargets(
    engine.db,
    settled.map(({ payment_hash }) => ({ kind: 'invoice' as const, key: payment_hash })),
  );
  const byHash = new Map(
    targets.filter(({ node_id }) => node_id === node.id).map((target) => [target.key, target]),
  );
  const booked = await Promise.allSettled(
    settled.map(async (invoice) => {
      const target = byHash.get(invoice.payment_hash);
      if (!target) return;
      await engine.writer.advance(creditInvoiceCommand(target, node.id, invoice));
    }),
  );
  for (const result of booked) {
    if (result.status === 'rejected' && !(result.reason instanceof Superseded)) throw result.reason;
  }
}

/**
 * Ends receives whose time is up. The node cancels their invoices first: what it holds paid, or says it
 * settled, is not expired but credited.
 */
export const expire: Step = async (engine, node, payments) => {
  const again_at = later(engine, PAUSE_MS.long);
  const end = (payment: Payment) => expireCommand(payment, again_at);
  await advanceAll(engine, payments.filter(isOnChain), end);
  const invoiced = payments.filter((payment) => !isOnChain(payment));
  const outcomes = await node.cancelInvoices(invoiced.map(hashOf));
  const of = (outcome: string) => invoiced.filter((_payment, index) => outcomes[index] === outcome);
  // Only what nobody can pay any more is shown as expired.
  await advanceAll(engine, of('cancelled'), end);
  const settled = of('settled');
  if (settled.length > 0) await creditSettled(engine, node, await node.settledAmong(settled.map(hashOf)));
  await advanceAll(engine, [...of('accepted'), ...of('unknown')], (payment) =>
    postponeCommand(payment, again_at),
  );
};

// A tick of the timer asks about this many, and a start about all of them in pages, however many are open (threat 18).
const COMPARE_PAGE = 500;
const FIRST = '00000000-0000-0000-0000-000000000000';

/** Where a comparison starts that has seen nothing yet. */
export const COMPARE_FROM_START: PaymentRef = { organization_id: FIRST, environment_id: FIRST, id: FIRST };

/**
 * Compares one page of open receives with the node's list, so that a settlement that no subscription told
 * is found all the same. Answers where the next page starts.
 */
export async function compareInvoices(
  engine: Engine,
  node: LightningNode,
  after: PaymentRef,
): Promise<PaymentRef> {
  const open = await engine.db.query<PaymentRef & { payment_hash: string | null }>(
    `SELECT j.organization_id, j.environment_id, j.payment_id AS id, p.payment_hash
     FROM jobs j
     JOIN payments p ON p.organization_id = j.organization_id AND p.environment_id = j.environment_id
       AND p.id = j.payment_id
     WHERE (j.organization_id, j.environment_id, j.payment_id) > ($2, $3, $4)
       AND j.node_id = $1 AND j.kind = 'expire'
     ORDER BY j.organization_id, j.environment_id, j.payment_id LIMIT $5`,
    [node.id, after.organization_id, after.environment_id, after.id, COMPARE_PAGE],
    'open receives',
  );
  const hashes = open.flatMap(({ payment_hash }) => payment_hash ?? []);
  if (hashes.length > 0) await creditSettled(engine, node, await node.settledAmong(hashes));
  const last = open.at(-1);
  return open.length < COMPARE_PAGE || !last ? COMPARE_FROM_START : refOf(last);
}
