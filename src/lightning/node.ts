/**
 * The port to a Lightning node and its chain wallet. The sandbox and lnd stand behind it;
 * nothing above it knows which. Amounts are msats unless a name says sats.
 */
export type Network = 'mainnet' | 'testnet' | 'signet' | 'mutinynet';

/** What addresses and invoices of a chain look like. */
export interface ChainParams {
  /** Currency prefix of a BOLT11 invoice: `bc`, `tb`, `tbs`, `bcrt`. */
  invoice_prefix: string;
  bech32: string;
  pub_key_hash: number;
  script_hash: number;
}

export interface InvoiceRequest {
  /** Names the invoice to the node: asked twice with the same reference, it answers the same invoice. */
  reference: string;
  /** Null: any amount. */
  amount_msats: bigint | null;
  description: string;
  expiry_seconds: number;
  /** When the receive was made, milliseconds since the epoch: the invoice's own timestamp. */
  created_at_ms: number;
}

export interface Invoice {
  /** Lower-case hex, as the node reports it: everything is keyed on this. */
  payment_hash: string;
  payment_request: string;
}

/** `cancelled`: nobody can pay it any more. Otherwise the outside payer was first. */
export type CancelOutcome = 'cancelled' | 'accepted' | 'settled' | 'unknown';

export interface PayRequest {
  payment_hash: string;
  payment_request: string;
  /** Principal to deliver: the invoice's amount, or the given one where it has none. */
  amount_msats: bigint;
  max_fee_msats: bigint;
}

/** The node's word on a payment. Only `settled` and `failed` end one. */
export type SendOutcome =
  | { state: 'settled'; preimage: string; fee_msats: bigint }
  | { state: 'failed'; code: SendFailure; detail: string }
  | { state: 'in_flight' }
  | { state: 'not_found' }
  | { state: 'unknown'; detail: string };

/** The send error codes of the contract that a node's failure maps to. */
export type SendFailure =
  | 'no_route'
  | 'upstream_failure'
  | 'insufficient_funds'
  | 'invalid_bolt11_invoice'
  | 'invalid_payment_amount'
  | 'rejected'
  | 'node_permission_denied'
  | 'transaction_build_failed'
  | 'broadcast_failed'
  | 'broadcast_fee_above_max';

export interface SettledInvoice {
  payment_hash: string;
  preimage: string;
  amount_msats: bigint;
  settle_index: bigint;
  /** When the node took it, milliseconds since the epoch. */
  settled_at_ms: number;
}

export interface BuildRequest {
  /** Labels the transaction at the node, so that it is found again. */
  reference: string;
  address: string;
  amount_sats: bigint;
  max_fee_sats: bigint;
}

export type BuiltTransaction =
  | { state: 'built'; tx_id: string; vout: number; raw: string; fee_sats: bigint }
  | { state: 'failed'; code: SendFailure; detail: string; context?: Record<string, unknown> };

export interface ChainOutput {
  vout: number;
  address: string;
  amount_sats: bigint;
}

/** A transaction of the node's wallet, in a block or in the mempool (`height` null). */
export interface ChainTransaction {
  tx_id: string;
  height: number | null;
  /** Unix time in seconds of the block. */
  mined_at: number | null;
  outputs: ChainOutput[];
}

/** What the node tells by itself. Each handler resolves when what it was told is committed. */
export interface NodeListener {
  settled(invoices: SettledInvoice[]): Promise<void>;
  /** A send whose call had not brought its end has one now. */
  ended(payment_hash: string, outcome: SendOutcome): Promise<void>;
  /** A block or a transaction of ours came or went: read `transactions` again. */
  chainChanged(): Promise<void>;
}

export interface LightningNode {
  readonly id: string;
  readonly network: Network;
  readonly chain: ChainParams;
  readonly sandbox: boolean;

  /** Makes and stores invoices, in the order of the requests. */
  createInvoices(requests: readonly InvoiceRequest[]): Promise<Invoice[]>;
  /** Cancels a batch; answers in its order. */
  cancelInvoices(payment_hashes: readonly string[]): Promise<CancelOutcome[]>;
  /** One fresh address per reference; the same reference gives the same address. */
  newAddresses(references: readonly string[]): Promise<string[]>;
  /** Invoices among these that were settled: the comparison of lists at boot and on a timer. */
  settledAmong(payment_hashes: readonly string[]): Promise<SettledInvoice[]>;

  /** Hands over payments; each promise settles with what that call brought, never rejects. */
  pay(requests: readonly PayRequest[]): Promise<SendOutcome>[];
  /** What the node knows of these payments now; answers in their order. */
  lookupPayments(payment_hashes: readonly string[]): Promise<SendOutcome[]>;
  /** The node's highest payment index: lower than one seen before means that it lost its history. */
  paymentIndex(): Promise<bigint>;

  /** Builds and signs; broadcasts nothing. Asked twice with one reference it answers the same transaction. */
  buildTransaction(request: BuildRequest): Promise<BuiltTransaction>;
  /** Broadcasts signed bytes; repeating it is harmless. */
  broadcast(raw: string): Promise<void>;
  /** Wallet transactions from `since_height` on, those in the mempool included. */
  transactions(since_height: number): Promise<{ tip_height: number; transactions: ChainTransaction[] }>;

  /** Starts telling; `settle_index` is the last one that is stored with its credit. */
  start(listener: NodeListener, settle_index: bigint): Promise<void>;
  stop(): Promise<void>;
  /** Resolves when the node answers; rejects with the reason otherwise. */
  ping(): Promise<void>;
  /** Worth of channels and chain funds (semantics.md section 3, "Node against ledger"). */
  worth(): Promise<{ channels_msats: bigint; chain_msats: bigint }>;
}
