import type { LndClient } from './lnd-client.ts';
import type { ChainOutput } from './node.ts';

// The lists that lnd keeps, as far as they are read here: what it is worth, what moved that, and what its wallet shows
// are taken from the same few. 64-bit numbers come as text; amounts are sats.

/** A transaction of the wallet; with no confirmation it is in the mempool, or lnd has not noticed that it is gone. */
export interface LndTransaction {
  tx_hash: string;
  /** What it changed in the wallet, its fee included. */
  amount: string;
  num_confirmations: number;
  block_height: number;
  time_stamp: string;
  raw_tx_hex: string;
  output_details: { address: string; output_index: string; amount: string; is_our_address: boolean }[];
  previous_outpoints: { outpoint: string }[];
}

/** An output of the wallet that is reserved. */
export interface Lease {
  id: Uint8Array;
  outpoint: { txid_bytes: Uint8Array; txid_str: string; output_index: number };
  value: string;
}

export interface OpenChannel {
  channel_point: string;
  initiator: boolean;
  capacity: string;
  push_amount_sat: string;
  local_balance: string;
  remote_balance: string;
  unsettled_balance: string;
  fee_per_kw: string;
  commitment_type: string;
  pending_htlcs: unknown[];
}

export interface PendingChannel {
  channel_point: string;
  initiator: string;
  capacity: string;
  local_balance: string;
  remote_balance: string;
}

interface ClosingChannel {
  channel: PendingChannel;
  limbo_balance: string;
}

interface PendingChannels {
  pending_open_channels: { channel: PendingChannel }[];
  waiting_close_channels: ClosingChannel[];
  pending_force_closing_channels: ClosingChannel[];
}

/** Who opened a channel, where lnd has a word for it. */
export const LOCAL = 'INITIATOR_LOCAL';

/** No block is this high: asked from here on, lnd lists what is unconfirmed. */
export const NO_BLOCK = 2 ** 31 - 1;

/** Wallet transactions in blocks from `start_height` on, and all that are unconfirmed (-1 is what lnd calls them). */
export async function walletTransactions(client: LndClient, start_height: number): Promise<LndTransaction[]> {
  const range = { start_height, end_height: -1 };
  return (await client.ask<{ transactions: LndTransaction[] }>('default', 'getTransactions', range))
    .transactions;
}

export const listLeases = async (client: LndClient): Promise<Lease[]> =>
  (await client.ask<{ locked_utxos: Lease[] }>('wallet', 'listLeases', {})).locked_utxos;

export const listChannels = async (client: LndClient): Promise<OpenChannel[]> =>
  (await client.ask<{ channels: OpenChannel[] }>('default', 'listChannels', {})).channels;

export async function listPending(client: LndClient) {
  const pending = await client.ask<PendingChannels>('default', 'pendingChannels', {});
  return {
    opening: pending.pending_open_channels.map(({ channel }) => channel),
    closing: [...pending.waiting_close_channels, ...pending.pending_force_closing_channels],
  };
}

/** Adds up amounts, as text or not. */
export const sumOf = (amounts: readonly (string | bigint)[]): bigint =>
  amounts.reduce<bigint>((sum, amount) => sum + BigInt(amount), 0n);

export const blockHeight = async (client: LndClient): Promise<number> =>
  (await client.ask<{ block_height: number }>('default', 'getInfo', {})).block_height;

/** The outputs of a transaction that pay the node's own wallet. */
export const ownOutputs = ({ output_details }: LndTransaction): ChainOutput[] =>
  output_details
    .filter((output) => output.is_our_address)
    .map((output) => ({
      vout: Number(output.output_index),
      address: output.address,
      amount_sats: BigInt(output.amount),
    }));
