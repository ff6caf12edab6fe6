import type { LndClient } from './lnd-client.ts';

interface Amount {
  msat: string;
}
interface ChannelBalance {
  local_balance: Amount;
  unsettled_local_balance: Amount;
  pending_open_local_balance: Amount;
}
interface OpenChannel {
  initiator: boolean;
  capacity: string;
  local_balance: string;
  remote_balance: string;
  unsettled_balance: string;
  fee_per_kw: string;
  commitment_type: string;
  pending_htlcs: unknown[];
}
interface PendingChannel {
  initiator: string;
  capacity: string;
  local_balance: string;
  remote_balance: string;
}
interface Pending {
  pending_open_channels: { channel: PendingChannel }[];
  waiting_close_channels: { limbo_balance: string }[];
  pending_force_closing_channels: { limbo_balance: string }[];
}

const MSATS_PER_SAT = 1000n;
const LOCAL = 'INITIATOR_LOCAL';
/** Two anchors of 330 sats, paid by whoever opened the channel (BOLT 3). */
const ANCHORS_SATS = 660n;

const anchorsOf = (commitment_type: string): bigint =>
  /ANCHORS|SCRIPT_ENFORCED_LEASE|TAPROOT/.test(commitment_type) ? ANCHORS_SATS : 0n;

/** Weights of a commitment transaction and of each HTLC in it (BOLT 3, and lnd's for Taproot channels). */
const COMMITMENT_WEIGHT = { legacy: 724n, anchors: 1124n, taproot: 968n };
const HTLC_WEIGHT = 172n;

const weightOf = (commitment_type: string): bigint => {
  if (/TAPROOT/.test(commitment_type)) return COMMITMENT_WEIGHT.taproot;
  return anchorsOf(commitment_type) > 0n ? COMMITMENT_WEIGHT.anchors : COMMITMENT_WEIGHT.legacy;
};

const sum = (values: readonly bigint[]): bigint => values.reduce((total, value) => total + value, 0n);

/** What lnd shows in whole sats are two balances and what is in flight: each may hide a part of a sat. */
const HIDDEN_SATS = 2n;

/**
 * What the opener of a channel funds beside its balance: the commitment's fee and the anchors; sats. It is what the
 * balances leave of the capacity, but for the sats whose parts they hide: the fee is the one that its rate gives.
 * (The fee that lnd reports holds more: an anchor or a balance that is too small to be an output.)
 */
function openerShare(channel: OpenChannel): bigint {
  const { commitment_type, fee_per_kw, pending_htlcs } = channel;
  const anchors = anchorsOf(commitment_type);
  const shown = [channel.local_balance, channel.remote_balance, channel.unsettled_balance].map(BigInt);
  const left = BigInt(channel.capacity) - sum(shown);
  const weight = weightOf(commitment_type);
  for (let htlcs = 0n; htlcs <= BigInt(pending_htlcs.length); htlcs += 1n) {
    const reckoned = (BigInt(fee_per_kw) * (weight + htlcs * HTLC_WEIGHT)) / 1000n + anchors;
    if (left >= reckoned && left - reckoned <= HIDDEN_SATS) return reckoned;
  }
  return left;
}

/**
 * Worth of a node (semantics.md section 3): channel balances, own HTLCs in flight, commitment fees and anchors that
 * it funds, pending closes; and its chain wallet, unconfirmed change and reserved inputs included.
 */
export async function lndWorth(
  client: LndClient,
  corrections: () => Promise<{ conflicted_sats: bigint; reserved_sats: bigint }>,
): Promise<{ channels_msats: bigint; chain_msats: bigint }> {
  const [{ conflicted_sats, reserved_sats }, balance, open, pending, wallet] = await Promise.all([
    corrections(),
    client.ask<ChannelBalance>('default', 'channelBalance', {}),
    client.ask<{ channels: OpenChannel[] }>('default', 'listChannels', {}),
    client.ask<Pending>('default', 'pendingChannels', {}),
    client.ask<{ total_balance: string }>('default', 'walletBalance', {}),
  ]);
  const funded_sats = sum([
    ...open.channels.filter(({ initiator }) => initiator).map(openerShare),
    ...pending.pending_open_channels
      .filter(({ channel }) => channel.initiator === LOCAL)
      .map(
        ({ channel }) =>
          BigInt(channel.capacity) - BigInt(channel.local_balance) - BigInt(channel.remote_balance),
      ),
    ...pending.waiting_close_channels.map(({ limbo_balance }) => BigInt(limbo_balance)),
    ...pending.pending_force_closing_channels.map(({ limbo_balance }) => BigInt(limbo_balance)),
  ]);
  return {
    channels_msats:
      BigInt(balance.local_balance.msat) +
      BigInt(balance.unsettled_local_balance.msat) +
      BigInt(balance.pending_open_local_balance.msat) +
      funded_sats * MSATS_PER_SAT,
    chain_msats: (BigInt(wallet.total_balance) + reserved_sats - conflicted_sats) * MSATS_PER_SAT,
  };
}
