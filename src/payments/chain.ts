import { nodeAccountId, RAIL_CURRENCY } from '../ledger/accounts.ts';
import { availableOf, hold, resume, transfer } from '../ledger/ledger.ts';
import { MSATS_PER_SAT, maxOf, minOf, toSats } from '../core/money.ts';
import type { BuiltTransaction } from '../lightning/node.ts';
import { creditReceive } from './receive.ts';
import { captureSend, expectState } from './settle.ts';
import { refOf, type Payment, type PaymentRef, type Receipt, type SeenOutput } from './types.ts';
import type { Command, KeyClaim, Work } from './work.ts';

/** An output to an address of ours, as the node's wallet shows it now; amount in msats. */
export interface OutputNow {
  tx_id: string;
  vout: number;
  address: string;
  amount: bigint;
  height: number | null;
  mined_at: number | null;
}

export interface ChainView {
  node_id: string;
  tip_height: number;
  required_confirmations: number;
  /** Confirmations from which on an output is watched no more. */
  final_confirmations: number;
}

const confirmationsAt = (view: ChainView, height: number | null): number =>
  height === null ? 0 : view.tip_height - height + 1;

/** True when an output, compared with what is stored, calls for a write. */
export function outputCalls(
  view: ChainView,
  known: SeenOutput | undefined,
  now: OutputNow | undefined,
): boolean {
  if (!now) return known !== undefined;
  if (!known || known.height !== now.height) return known === undefined || known.state !== 'frozen';
  const confirmations = confirmationsAt(view, now.height);
  if (known.state === 'seen') return confirmations >= view.required_confirmations;
  return known.state === 'credited' && confirmations >= view.final_confirmations;
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
  const ripe = now.filter((output) => confirmationsAt(view, output.height) >= view.required_confirmations);
  const claims = ripe.map((output): KeyClaim => ({
    ...ref,
    node_id: view.node_id,
    kind: 'credit',
    key: `${output.tx_id}:${output.vout}`,
  }));
  return {
    payments: [ref],
    claims,
    moves_money: true,
    outputs: true,
    decide(work) {
      const payment = work.payment(ref);
      if (!payment) throw new Error(`receive ${ref.id} of an address is missing`);
      const known = work.outputs.filter((output) => output.payment_id === ref.id);
      const at = (output: { tx_id: string; vout: number }) => `${output.tx_id}:${output.vout}`;
      const current = new Map(now.map((output) => [at(output), output]));
      for (const output of known) {
        if (!current.has(at(output))) outputGone(work, payment, output);
      }
      for (const output of now) {
        const claim = claims.find(({ key }) => key === at(output));
        const stored = known.find((other) => at(other) === at(output));
        outputHere(work, payment, view, stored, output, claim !== undefined && work.holdsClaim(claim));
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
    organization_id: payment.organization_id,
    environment_id: payment.environment_id,
    payment_id: payment.id,
    node_id: view.node_id,
    tx_id: now.tx_id,
    vout: now.vout,
    amount: now.amount,
    height: null,
    state: 'seen',
    first_seen_at: work.time(),
  };
  output.height = now.height;
  if (output.state === 'seen' && ripe) {
    output.state = 'credited';
    const others = payment.receipts.filter((receipt) => !isReceiptOf(receipt, now));
    payment.receipts = others;
    // Its first confirmation decides whether it came while its quote held.
    const taken_at_ms = (now.mined_at ?? 0) * 1000;
    creditReceive(work, payment, now.amount, { node_id: view.node_id, kind: 'chain' }, taken_at_ms, () =>
      onChainReceipt(view, now, false),
    );
  } else if (output.state === 'seen') {
    if (!stored) work.tell(payment, 'detected');
    payment.receipts = [
      ...payment.receipts.filter((receipt) => !isReceiptOf(receipt, now)),
      onChainReceipt(view, now, true),
    ];
    work.touch(payment);
  } else if (confirmationsAt(view, now.height) >= view.final_confirmations) {
    output.state = 'final';
  }
  work.putOutput(output);
}

const isReceiptOf = (receipt: Receipt, output: { tx_id: string; vout: number }): boolean =>
  receipt.type === 'onchain' && receipt.tx_id === output.tx_id && receipt.vout === output.vout;

const onChainReceipt = (view: ChainView, now: OutputNow, pending: boolean): Receipt => ({
  type: 'onchain',
  tx_id: now.tx_id,
  vout: now.vout,
  amount_sats: toSats(now.amount).toString(),
  required_confirmations: view.required_confirmations,
  height: now.height,
  mined_at: now.mined_at,
  ledger_id: null,
  pending,
});

function outputGone(work: Work, payment: Payment, output: SeenOutput): void {
  if (output.state === 'seen') {
    payment.receipts = payment.receipts.filter((receipt) => !isReceiptOf(receipt, output));
    work.touch(payment);
    work.forgetOutput(output);
    return;
  }
  if (output.state !== 'credited') return;
  freeze(work, payment, output);
}

/**
 * The chain took back what was credited. What the wallet still has is held; the rest is the operator's
 * loss. The node's chain funds fell by all of it, so that node and ledger agree at once. What still waits in
 * suspense was nobody's yet and goes back.
 */
function freeze(work: Work, payment: Payment, output: SeenOutput): void {
  const account = work.wallet(payment.organization_id, payment.wallet_id);
  const { organization_id } = account;
  const reason = { payment_id: payment.id, at: work.time() };
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
    payment.receipts = payment.receipts.filter((receipt) => !isReceiptOf(receipt, output));
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
  ref: PaymentRef,
  built: Extract<BuiltTransaction, { state: 'built' }>,
  required_confirmations: number,
  track_at: string,
): Command<Payment> {
  return {
    payments: [ref],
    moves_money: false,
    decide(work) {
      const payment = expectState(work, ref, ['approved']);
      const fee = built.fee_sats * MSATS_PER_SAT;
      if (fee > (payment.max_fee ?? 0n))
        throw new Error(`payment ${ref.id}: the node built above the fee cap`);
      payment.network_fee = fee;
      payment.receipts = [
        {
          type: 'onchain',
          tx_id: built.tx_id,
          vout: built.vout,
          amount_sats: toSats(payment.amount ?? 0n).toString(),
          required_confirmations,
          height: null,
          mined_at: null,
          ledger_id: payment.hold_id,
          pending: true,
        },
      ];
      work.putChainSend({
        organization_id: ref.organization_id,
        environment_id: ref.environment_id,
        payment_id: ref.id,
        node_id: payment.node_id,
        tx_id: built.tx_id,
        vout: built.vout,
        raw: built.raw,
        fee,
        created_at: work.time(),
      });
      work.move(payment, 'dispatched', 'dispatched');
      work.job(payment, { kind: 'chain', run_at: track_at, mine: true });
      return payment;
    },
  };
}

/** An on-chain send's transaction as the chain has it now: captured and completed at its confirmations. */
export const chainSendCommand = (
  ref: PaymentRef,
  view: ChainView,
  seen: { height: number | null; mined_at: number | null },
): Command<void> => ({
  payments: [ref],
  moves_money: true,
  decide(work) {
    const payment = expectState(work, ref, ['dispatched']);
    const done = confirmationsAt(view, seen.height) >= view.required_confirmations;
    payment.receipts = payment.receipts.map((receipt) =>
      receipt.type === 'onchain'
        ? { ...receipt, height: seen.height, mined_at: seen.mined_at, pending: !done }
        : receipt,
    );
    if (!done) return work.touch(payment);
    captureSend(work, payment, payment.network_fee ?? 0n, { node_id: payment.node_id, kind: 'chain' });
    work.move(payment, 'completed', 'completed');
    work.job(payment, null);
  },
});
