import { availableOf, hold, transfer } from '../ledger/ledger.ts';
import { nodeAccountId } from '../ledger/accounts.ts';
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
    creditReceive(work, payment, now.amount, { node_id: view.node_id, kind: 'chain' }, (ledger_id) =>
      onChainReceipt(view, now, ledger_id),
    );
  } else if (output.state === 'seen') {
    if (!stored) work.tell(payment, 'detected');
    payment.receipts = [
      ...payment.receipts.filter((receipt) => !isReceiptOf(receipt, now)),
      onChainReceipt(view, now, null),
    ];
    work.touch(payment);
  } else if (confirmationsAt(view, now.height) >= view.final_confirmations) {
    output.state = 'final';
  }
  work.putOutput(output);
}

const isReceiptOf = (receipt: Receipt, output: { tx_id: string; vout: number }): boolean =>
  receipt.type === 'onchain' && receipt.tx_id === output.tx_id && receipt.vout === output.vout;

const onChainReceipt = (view: ChainView, now: OutputNow, ledger_id: string | null): Receipt => ({
  type: 'onchain',
  tx_id: now.tx_id,
  vout: now.vout,
  amount_sats: toSats(now.amount).toString(),
  required_confirmations: view.required_confirmations,
  height: now.height,
  mined_at: now.mined_at,
  ledger_id,
  pending: ledger_id === null,
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
 * loss. The node's chain funds fell by all of it, so that node and ledger agree at once.
 */
function freeze(work: Work, payment: Payment, output: SeenOutput): void {
  const account = work.wallet(payment.organization_id, payment.wallet_id);
  const { organization_id, currency } = account;
  const reason = { payment_id: payment.id, at: work.time() };
  const held = minOf(output.amount, maxOf(0n, availableOf(account)));
  if (held > 0n) hold(work.posting, account, held, reason);
  const chain = nodeAccountId(organization_id, output.node_id, 'chain', currency);
  for (const [kind, amount] of [
    ['frozen', held],
    ['loss', output.amount - held],
  ] as const) {
    const from = nodeAccountId(organization_id, output.node_id, kind, currency);
    transfer(work.posting, { organization_id, from, to: chain, currency, amount, kind }, reason);
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
  work.raise(payment, 'frozen', { tx_id: output.tx_id, amount_sats, held_msats: held.toString() });
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
    captureSend(work, payment, payment.network_fee ?? 0n, 'chain');
    work.move(payment, 'completed', 'completed');
    work.job(payment, null);
  },
});
