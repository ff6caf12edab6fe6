import type { EnvironmentRef } from '../core/ids.ts';
import type { WalletRef } from '../ledger/ledger.ts';
import type { Direction, State } from './states.ts';

// A payment as all files here know it: the row of `payments` and the rows beside it, and how each of them is named.
// No rule and no SQL: whoever moves a payment imports this, so it imports nothing of theirs but types.

export type Kind = 'bolt11' | 'onchain' | 'bip21';

/** Names one payment: ids are unique per environment. */
export interface PaymentRef extends EnvironmentRef {
  id: string;
}

/** Settlement records as stored; amounts as text, since a JSON number would round them. */
export type Receipt =
  | { type: 'lightning'; preimage: string; payment_hash: string; ledger_id: string | null }
  | { type: 'shortcircuit'; amount_msats: string; offset_payment_id: string; ledger_id: string | null }
  | {
      type: 'onchain';
      tx_id: string;
      vout: number;
      amount_sats: string;
      required_confirmations: number;
      height: number | null;
      mined_at: number | null;
      ledger_id: string | null;
      pending: boolean;
    };

export interface Frozen {
  tx_id: string;
  address: string;
  amount_sats: string;
  reason: string;
}

/** A market quote as it was locked. */
export interface LockedQuote {
  from: string;
  to: string;
  rate: string;
  quoted_at: string;
  expires_at: string | null;
}

/** Bitcoin and dollars that changed hands in one movement of the ledger; amounts as text, like those of receipts. */
export interface Exchange {
  /** The hold or credit that it belongs to. */
  ledger_id: string;
  /** Null at the market's rate of the moment. */
  quote_id: string | null;
  quote: LockedQuote;
  btc_msats: string;
  usd_cents: string;
}

export interface PaymentError {
  type: string;
  code?: string;
  detail: string;
  context?: Record<string, unknown>;
}

/**
 * What a request asks for once it is known to be sound; the row of its payment begins with it. Amounts are msats of
 * the rail unless a line says otherwise.
 */
export interface Draft {
  direction: Direction;
  kind: Kind;
  /** Principal; of a receive: what was asked for, null for any amount. */
  amount: bigint | null;
  /** Principal of a quoted receive, cents. */
  requested: bigint | null;
  max_fee: bigint | null;
  payment_hash: string | null;
  payment_request: string | null;
  address: string | null;
  description: string | null;
  expiration: number | null;
}

/** The `send_failed` error with the node's finer reason. */
export const sendFailed = (
  code: string,
  detail: string,
  context?: Record<string, unknown>,
): PaymentError => ({ type: 'send_failed', code, detail, ...(context ? { context } : {}) });

/** The same of a receive that was never made. */
export const receiveFailed = (code: string, detail: string): PaymentError => ({
  type: 'receive_failed',
  code,
  detail,
});

/** One row of `payments`. */
export interface Payment extends PaymentRef, Draft {
  wallet_id: string;
  line_of_credit_id: string;
  node_id: string;
  category: 'standard' | 'treasury';
  check_only: boolean;
  /** When a check became a payment; null for any other. */
  promoted_at: string | null;
  /** The wallet's. */
  currency: string;
  state: State;
  network_fee: bigint | null;
  /** On the principal as requested, in its currency: msats of a send, the wallet's currency of a receive. */
  processing_fee: bigint;
  fee_bps: number;
  quote_id: string | null;
  quote: LockedQuote | null;
  exchanges: Exchange[];
  /** What the payer of a fixed receive pays, fee included. */
  payable: bigint | null;
  /** What came in, and how much of it waits in suspense. */
  received: bigint;
  suspended: bigint;
  /** What came in by the wallet's currency, and the part of it that was credited; the rest is the processing fee. */
  gross: bigint;
  credited: bigint;
  hold_id: string | null;
  /** What a send holds, in the wallet's currency. */
  hold_amount: bigint | null;
  expires_at: string | null;
  target: (PaymentRef & { node_id: string }) | null;
  receipts: Receipt[];
  frozen: Frozen[] | null;
  error: PaymentError | null;
  metadata: Record<string, string> | null;
  /** The node's payment history when the send was handed over: its highest index, and how often it was lost before. */
  node_index: bigint | null;
  node_epoch: number | null;
  /** How often it was handed to its node, by whichever server. */
  calls: number;
  last_position: number;
  created_at: string;
  updated_at: string;
}

export type JobKind = 'generate' | 'expire' | 'dispatch' | 'internal' | 'track' | 'chain' | 'exchange';

/** An output to one of our addresses as last seen; amount in msats. */
export interface SeenOutput extends EnvironmentRef {
  payment_id: string;
  node_id: string;
  tx_id: string;
  vout: number;
  amount: bigint;
  height: number | null;
  state: 'seen' | 'credited' | 'frozen' | 'final';
  first_seen_at: string;
}

/** The signed transaction of an on-chain send; fee in msats. */
export interface ChainSend extends Omit<SeenOutput, 'amount' | 'height' | 'state' | 'first_seen_at'> {
  raw: string;
  fee: bigint;
  created_at: string;
}

/** When a send was held. */
export const heldAt = (payment: Payment): string => payment.promoted_at ?? payment.created_at;

/** Whether a send goes to (or a receive waits at) an address only. */
export const isOnChain = (payment: Payment): boolean => payment.payment_hash === null;

/** The payment hash, where there is one: as nodes are asked. */
export const hashOf = (payment: Payment): string => payment.payment_hash ?? '';

/** A payment, and whose money it moves where that is known: what is known need not be read before it is locked. */
export interface OwnedRef extends PaymentRef {
  wallet_id?: string;
}

export const refOf = ({ organization_id, environment_id, id }: PaymentRef): PaymentRef => ({
  organization_id,
  environment_id,
  id,
});

/** The same as the columns of a row beside it. */
export const rowOf = ({ organization_id, environment_id, id }: PaymentRef) => ({
  organization_id,
  environment_id,
  payment_id: id,
});

/** Names the last call of a send, by whichever server it was made. */
export const callKey = (payment: PaymentRef & Pick<Payment, 'calls'>): string =>
  `${refKey(payment)}/${payment.calls}`;

/** Names a wallet: ids of wallets are unique per organization. */
export const walletKey = (ref: WalletRef): string => `${ref.organization_id}/${ref.id}`;

export const refKey = (ref: PaymentRef): string => `${ref.organization_id}/${ref.environment_id}/${ref.id}`;
