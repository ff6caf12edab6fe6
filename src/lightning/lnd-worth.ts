import { toMsats } from '../core/money.ts';
import type { LndClient } from './lnd-client.ts';
import { listChannels, listPending, LOCAL, sumOf, type OpenChannel } from './lnd-lists.ts';
import type { LightningNode } from './node.ts';

// What a node has, to the msat, as it is held against the ledger (nodes/books.ts). lnd shows each part in another list, and
// some in whole sats: what no list shows has to follow from the others.

interface ChannelBalance {
  local_balance: { msat: string };
  unsettled_local_balance: { msat: string };
  pending_open_local_balance: { msat: string };
}

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
  const shown = sumOf([channel.local_balance, channel.remote_balance, channel.unsettled_balance]);
  const left = BigInt(channel.capacity) - shown;
  const weight = weightOf(commitment_type);
  // How many HTLCs are outputs of their own is not listed: those that are too small go to the fee. One count fits.
  for (let htlcs = 0n; htlcs <= BigInt(pending_htlcs.length); htlcs += 1n) {
    const reckoned = (BigInt(fee_per_kw) * (weight + htlcs * HTLC_WEIGHT)) / 1000n + anchors;
    if (left >= reckoned && left - reckoned <= HIDDEN_SATS) return reckoned;
  }
  // A commitment of a kind that is unknown here: off by no more than the parts of sats that balances hide.
  return left;
}

/**
 * Worth of a node (semantics.md section 3): channel balances, own HTLCs in flight, commitment fees and anchors that
 * it funds, pending closes; and its chain wallet, unconfirmed change and reserved inputs included.
 */
export async function lndWorth(
  client: LndClient,
  corrections: () => Promise<{ conflicted_sats: bigint; reserved_sats: bigint }>,
): ReturnType<LightningNode['worth']> {
  const [{ conflicted_sats, reserved_sats }, balance, open, pending, wallet] = await Promise.all([
    corrections(),
    client.ask<ChannelBalance>('default', 'channelBalance', {}),
    listChannels(client),
    listPending(client),
    client.ask<{ total_balance: string }>('default', 'walletBalance', {}),
  ]);
  const funded_sats = sumOf([
    ...open.filter(({ initiator }) => initiator).map(openerShare),
    ...pending.opening
      .filter(({ initiator }) => initiator === LOCAL)
      .map((channel) => BigInt(channel.capacity) - sumOf([channel.local_balance, channel.remote_balance])),
    ...pending.closing.map(({ limbo_balance }) => limbo_balance),
  ]);
  return {
    channels_msats:
      BigInt(balance.local_balance.msat) +
      BigInt(balance.unsettled_local_balance.msat) +
      BigInt(balance.pending_open_local_balance.msat) +
      toMsats(funded_sats),
    chain_msats: toMsats(BigInt(wallet.total_balance) + reserved_sats - conflicted_sats),
  };
}
