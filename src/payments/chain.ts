import { nodeAccountId, RAIL_CURRENCY } from '../ledger/accounts.ts';
import { availableOf, hold, resume, transfer } from '../ledger/ledger.ts';
import { MSATS_PER_SAT, maxOf, minOf, toSats } from '../core/money.ts';
import type { BuiltTransaction } from '../lightning/node.ts';
import { creditReceive } from './receive.ts';
import { captureSend, expectState } from './settle.ts';
import { refOf, rowOf, type Payment, type PaymentRef, type Receipt, type SeenOutput } from './types.ts';
import type { Command, KeyClaim, Work } from './work.ts';

// What follows from what the chain shows (`scan.ts` reads it): rules only, decided under the payment's lock. The chain may
// take back what it showed, so money is credited at a depth, watched until it is final, and frozen when it goes again.

/** Outputs are watched for reorganizations until they are this deep. */
const FINAL_CONFIRMATIONS = 100;

/** An output of a transaction, by what names it in the whole chain. */
interface OutputRef {
  tx_id: string;
  vout: number;
}

/** An output to an address of ours, as the node's wallet shows it now; amount in msats. */
export interface OutputNow extends OutputRef {
  address: string;
  amount: bigint;
  height: number | null;
  mined_at: number | null;
}

export interface ChainView {
  node_id: string;
  tip_height: number;
  required_confirmations: number;
}

export const outputId = ({ tx_id, vout }: OutputRef): string => `${tx_id}:${vout}`;

/** How deep a transaction of this height is; one without a height waits in the mempool. */
const confirmationsAt = (view: ChainView, height: number | null): number =>
  height === null ? 0 : view.tip_height - height + 1;

/** Whether a transaction of this height counts. */
export const isRipe = (view: ChainView, height: number | null): boolean =>
  confirmationsAt(view, height) >= view.required_confirmations;

const isFinal = (view: ChainView, height: number | null): boolean =>
  confirmationsAt(view, height) >= FINAL_CONFIRMATIONS;

/** True when an output, compared with what is stored, calls for a write: a scan reads many that do not. */
export function outputCalls(view: ChainView, known: SeenOutput | undefined, now: OutputNow): boolean {
  if (!known) return true;
  if (known.height !== now.height) return known.state !== 'frozen';
  if (known.state === 'seen') return isRipe(view, now.height);
  return known.state === 'credited' && isFinal(view, now.height);
}

/**
 * Brings a receive up to what the chain says now: new outputs are noted, credited once at their required
 * confirmations, forgotten when they vanish before that, frozen when they vanish after.
 */
export function chainReceiveCommand(
  receive: PaymentRef,
  view: ChainView,
  now: readonly OutputNow[],
): Command<void> {
  const ref = refOf(receive);
  const claims = now
    .filter((output) => isRipe(view, output.height))
    .map((output): KeyClaim => ({ ...ref, node_id: view.node_id, kind: 'credit', key: outputId(output) }));
  return {
    payments: [ref],
    claims,
    moves_money: true,
    outputs: true,
    decide(work) {
      const payment = work.payment(ref);
      if (!payment) throw new Error(`receive ${ref.id} of an address is missing`);
      const known = work.outputs.filter((output) => output.payment_id === ref.id);
      const stored = new Map(known.map((output) => [outputId(output), output]));
      const present = new Set(now.map(outputId));
      for (const [id, output] of stored) if (!present.has(id)) outputGone(work, payment, output);
      for (const output of now) {
        const id = outputId(output);
        // One that was credited before has its key taken: a second scan of it, here or elsewhere, credits nothing.
        const claim = claims.find(({ key }) => key === id);
        const ripe = claim !== undefined && work.holdsClaim(claim);
        outputHere(work, payment, view, stored.get(id), output, ripe);
      }
    },
  };
}

function outputHere(
  work: Work,
  payment: Payment,
  view: ChainView,
  stored: SeenOutput | undefined,
  now: OutputNow,
  ripe: boolean,
): void {
  if (stored?.state === 'frozen') return;
  const output: SeenOutput = stored ?? {
    ...rowOf(payment),
    node_id: view.node_id,
    tx_id: now.tx_id,
    vout: now.vout,
    amount: now.amount,
    height: null,
    state: 'seen',
    first_seen_at: work.time(),
  };
  const receipt = (pending: boolean) =>
    onChainReceipt(now, view.required_confirmations, { ledger_id: null, pending });
  output.height = now.height;
  if (output.state === 'seen' && ripe) {
    output.state = 'credited';
    dropReceipt(payment, now);
    // Its first confirmation decides whether it came while its quote held.
    const taken_at_ms = (now.mined_at ?? 0) * 1000;
    const from = { node_id: view.node_id, kind: 'chain' } as const;
    creditReceive(work, payment, now.amount, from, taken_at_ms, receipt(false));
  } else if (output.state === 'seen') {
    if (!stored) work.tell(payment, 'detected');
    dropReceipt(payment, now);
    payment.receipts.push(receipt(true));
    work.touch(payment);
  } else if (isFinal(view, now.height)) {
    output.state = 'final';
  }
  work.putOutput(output);
}

const isReceiptOf = (receipt: Receipt, output: OutputRef): boolean =>
  receipt.type === 'onchain' && outputId(receipt) === outputId(output);

/** Takes the receipt of an output off a payment: the chain shows it otherwise now, or not at all. */
function dropReceipt(payment: Payment, output: OutputRef): void {
  payment.receipts = payment.receipts.filter((receipt) => !isReceiptOf(receipt, output));
}

const onChainReceipt = (
  output: Omit<OutputNow, 'address'>,
  required_confirmations: number,
  { ledger_id, pending }: { ledger_id: string | null; pending: boolean },
): Receipt => ({
  type: 'onchain',
  tx_id: output.tx_id,
  vout: output.vout,
  amount_sats: toSats(output.amount).toString(),
  required_confirmations,
  height: output.height,
  mined_at: output.mined_at,
  ledger_id,
  pending,
});

function outputGone(work: Work, payment: Payment, output: SeenOutput): void {
  if (output.state === 'credited') return freeze(work, payment, output);
  if (output.state !== 'seen') return;
  dropReceipt(payment, output);
  work.touch(payment);
  work.forgetOutput(output);
}

/**
 * The chain took back what was credited. What the wallet still has is held; the rest is the operator's
 * loss. The node's chain funds fell by all of it, so that node and ledger agree at once. What still waits in
 * suspense was nobody's yet and goes back.
 */
function freeze(work: Work, payment: Payment, output: SeenOutput): void {
  const account = work.wallet(payment);
  const { organization_id } = account;
  const reason = work.reason(payment);
  const share = creditedShare(payment, output);
  const suspended = share === null ? output.amount : 0n;
  const held = minOf(share?.principal ?? 0n, maxOf(0n, availableOf(account)));
  if (held > 0n) hold(work.posting, account, held, reason);
  const held_msats = share && held > 0n ? (output.amount * held) / share.gross : 0n;
  const chain = nodeAccountId(organization_id, output.node_id, 'chain', RAIL_CURRENCY);
  for (const [kind, amount] of [
    ['frozen', held_msats],
    ['loss', output.amount - held_msats - suspended],
  ] as const) {
    const from = nodeAccountId(organization_id, output.node_id, kind, RAIL_CURRENCY);
    transfer(
      work.posting,
      { organization_id, from, to: chain, currency: RAIL_CURRENCY, amount, kind },
      reason,
    );
  }
  resume(work.posting, account, suspended, { node_id: output.node_id, kind: 'chain' }, reason);
  if (suspended > 0n) {
    // It was credited to nobody: as if it had not come.
    payment.suspended -= suspended;
    payment.received -= suspended;
    dropReceipt(payment, output);
  }
  output.state = 'frozen';
  work.putOutput(output);
  const amount_sats = toSats(output.amount).toString();
  payment.frozen = [
    ...(payment.frozen ?? []),
    {
      tx_id: output.tx_id,
      address: payment.address ?? '',
      amount_sats,
      reason: 'the transaction was credited and then removed from the chain',
    },
  ];
  work.touch(payment);
  work.raise(payment, 'frozen', { tx_id: output.tx_id, amount_sats, held: held.toString() });
}

/** What the wallet got for an output, in its currency, with and without the fee; null while that waits. */
function creditedShare(payment: Payment, output: SeenOutput): { gross: bigint; principal: bigint } | null {
  const receipt = payment.receipts.find((candidate) => isReceiptOf(candidate, output));
  if (!receipt || receipt.ledger_id === null) return null;
  const exchange = payment.exchanges.find(({ ledger_id }) => ledger_id === receipt.ledger_id);
  const gross = exchange
    ? (BigInt(exchange.usd_cents) * output.amount) / BigInt(exchange.btc_msats)
    : output.amount;
  return { gross, principal: payment.gross === 0n ? 0n : (gross * payment.credited) / payment.gross };
}

/** approved -> dispatched with its signed transaction stored: from here on only these bytes are broadcast. */
export function chainDispatchCommand(
  send: Payment,
  built: Extract<BuiltTransaction, { state: 'built' }>,
  required_confirmations: number,
  track_at: string,
): Command<Payment> {
  const { tx_id, vout, raw } = built;
  return {
    payments: [send],
    moves_money: false,
    decide(work) {
      const payment = expectState(work, send, ['approved']);
      const fee = built.fee_sats * MSATS_PER_SAT;
      if (fee > (payment.max_fee ?? 0n))
        throw new Error(`payment ${payment.id}: the node built above the fee cap`);
      payment.network_fee = fee;
      const output = { tx_id, vout, amount: payment.amount ?? 0n, height: null, mined_at: null };
      const { node_id, hold_id } = payment;
      payment.receipts = [
        onChainReceipt(output, required_confirmations, { ledger_id: hold_id, pending: true }),
      ];
      work.putChainSend({ ...rowOf(payment), node_id, tx_id, vout, raw, fee, created_at: work.time() });
      work.move(payment, 'dispatched');
      work.job(payment, 'chain', track_at);
      return payment;
    },
  };
}

/** An on-chain send's transaction as the chain has it now: captured and completed at its confirmations. */
export const chainSendCommand = (
  ref: PaymentRef,
  view: ChainView,
  { height, mined_at }: { height: number | null; mined_at: number | null },
): Command<void> => ({
  payments: [ref],
  moves_money: true,
  decide(work) {
    const payment = expectState(work, ref, ['dispatched']);
    const pending = !isRipe(view, height);
    payment.receipts = payment.receipts.map((receipt) =>
      receipt.type === 'onchain' ? { ...receipt, height, mined_at, pending } : receipt,
    );
    if (pending) return work.touch(payment);
    captureSend(work, payment, payment.network_fee ?? 0n, { node_id: payment.node_id, kind: 'chain' });
    work.move(payment, 'completed');
  },
});
