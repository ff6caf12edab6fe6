import { minOf } from '../core/money.ts';
import { nodeAccountId, RAIL_CURRENCY } from '../ledger/accounts.ts';
import { capture, release, transfer, type Counterpart, type HeldFunds } from '../ledger/ledger.ts';
import { costOf } from './amounts.ts';
import { countedSend } from './limits.ts';
import {
  hashOf,
  isOnChain,
  refOf,
  type OwnedRef,
  type Payment,
  type PaymentError,
  type PaymentRef,
} from './types.ts';
import type { Command, Work } from './work.ts';
import { Superseded } from './writer.ts';

// How a send goes to its node and ends: the commands, pure. Each begins by asking whether the payment is where it was when
// somebody decided this; whoever comes second (another server, a late answer, the operator) changes nothing.

/** The payment, if it is still in one of these states; otherwise somebody else moved it first. */
export function expectState(work: Work, ref: PaymentRef, states: readonly string[]): Payment {
  const payment = work.payment(ref);
  if (!payment || !states.includes(payment.state)) {
    throw new Superseded(`payment ${ref.id} is ${payment?.state ?? 'missing'}, not ${states.join(' or ')}`);
  }
  return payment;
}

/** The hold of a send that is under way. */
function fundsOf(payment: Payment): HeldFunds {
  const { hold_id, hold_amount } = payment;
  if (hold_id === null || hold_amount === null) throw new Error(`payment ${payment.id} has no hold`);
  return { hold_id, held: hold_amount };
}

/** What a send is handed to its node with. */
export interface Handover {
  /** When the node is asked what became of it, if it has not said so by then. */
  track_at: string;
  /** How far the node's payment history goes before the call. */
  history: { index: bigint; epoch: number };
}

/** approved -> dispatched: from the commit on, the node may have been called. */
export function handOver(work: Work, payment: Payment, { track_at, history }: Handover): void {
  payment.node_index = history.index;
  payment.node_epoch = history.epoch;
  payment.calls += 1;
  work.move(payment, 'dispatched');
  work.job(payment, 'track', track_at);
}

/** Hands over a send that had to wait for its node. Answers the payment to call with. */
export const dispatchCommand = (ref: PaymentRef, handover: Handover): Command<Payment> => ({
  payments: [ref],
  moves_money: false,
  decide(work) {
    const payment = expectState(work, ref, ['approved']);
    handOver(work, payment, handover);
    return payment;
  },
});

/** The payment, if no server has handed it to the node since it was read: what was found then may be old. */
function expectNoNewCall(payment: Payment, calls: number): void {
  if (payment.calls !== calls) throw new Superseded(`payment ${payment.id} was handed over meanwhile`);
}

/** A dispatched send is about to be handed over once more: refused when somebody was first, or has ended it. */
export const repeatCommand = (read: Payment, track_at: string): Command<Payment> => ({
  payments: [read],
  moves_money: false,
  decide(work) {
    const payment = expectState(work, read, ['dispatched']);
    expectNoNewCall(payment, read.calls);
    // Counted before the call: a server that reads this number later knows that a call may be on its way.
    payment.calls += 1;
    work.touch(payment);
    work.job(payment, 'track', track_at);
    return payment;
  },
});

/** The node settled a Lightning send: captures principal and the real fee, frees the rest. */
export const settleSendCommand = (
  ref: OwnedRef,
  outcome: { preimage: string; fee_msats: bigint },
): Command<Payment> => ({
  payments: [ref],
  moves_money: true,
  decide(work) {
    const payment = expectState(work, ref, ['dispatched']);
    const { payment_hash, hold_id } = payment;
    if (payment_hash === null) throw new Error(`payment ${payment.id} has no payment hash`);
    payment.receipts = [{ type: 'lightning', preimage: outcome.preimage, payment_hash, ledger_id: hold_id }];
    // Never more than was held for it, whatever the node says (threat 5).
    const charged = minOf(outcome.fee_msats, payment.max_fee ?? 0n);
    captureSend(work, payment, charged, { node_id: payment.node_id, kind: 'channels' });
    if (charged < outcome.fee_msats) bearExcess(work, payment, outcome.fee_msats - charged);
    work.move(payment, 'completed');
    return payment;
  },
});

/** A node that paid more than its cap allowed: the wallet pays the cap, the operator the rest, and hears of it. */
function bearExcess(work: Work, payment: Payment, excess: bigint): void {
  const { organization_id, node_id } = payment;
  const from = nodeAccountId(organization_id, node_id, 'network_fees', RAIL_CURRENCY);
  const to = nodeAccountId(organization_id, node_id, 'channels', RAIL_CURRENCY);
  const move = { organization_id, from, to, currency: RAIL_CURRENCY, amount: excess, kind: 'network_fee' };
  transfer(work.posting, move, work.reason(payment));
  work.raise(payment, 'over_cap', { excess_msats: excess.toString() });
}

/** Takes principal, network fee (msats) and processing fee out of the hold of a send; `to` is where they go. */
export function captureSend(work: Work, payment: Payment, network_fee: bigint, to: Counterpart): void {
  payment.network_fee = network_fee;
  const cost = costOf(payment, network_fee);
  const rail = { principal: payment.amount ?? 0n, network_fee };
  const funds = fundsOf(payment);
  capture(work.posting, work.wallet(payment), funds, { cost, rail }, to, work.reason(payment));
  if (!payment.quote) return;
  payment.exchanges.push({
    ledger_id: funds.hold_id,
    quote_id: payment.quote_id,
    quote: payment.quote,
    btc_msats: (rail.principal + network_fee).toString(),
    usd_cents: (cost.principal + cost.network_fee).toString(),
  });
}

/** The key that a send holds while it is in flight or settled; given back when it failed. */
const sendClaim = (payment: Payment) => ({
  ...refOf(payment),
  node_id: payment.target?.node_id ?? payment.node_id,
  kind: 'send' as const,
  key: hashOf(payment),
});

/**
 * Ends a send that will never be paid, and frees its hold. `from` names the states in which this is known; `calls`
 * is how many had been made when it became known.
 */
export const failSendCommand = (
  ref: OwnedRef,
  error: PaymentError,
  from: readonly ('approved' | 'claiming' | 'dispatched')[],
  calls?: number,
): Command<Payment> => ({
  payments: [ref],
  moves_money: true,
  decide(work) {
    const payment = expectState(work, ref, from);
    if (calls !== undefined) expectNoNewCall(payment, calls);
    failSend(work, payment, error);
    return payment;
  },
});

function failSend(work: Work, payment: Payment, error: PaymentError): void {
  const account = work.wallet(payment);
  // Hold, volume, key and state in one commit: freed money whose hash is still taken, or the other way round, never is.
  release(work.posting, account, fundsOf(payment), work.reason(payment));
  work.usages.giveBack(account, countedSend(payment));
  if (!isOnChain(payment)) work.dropClaim(sendClaim(payment));
  payment.receipts = [];
  work.move(payment, 'failed', error);
}
