import assert from 'node:assert/strict';
import { test } from 'node:test';
import { lndBooks } from './lnd-books.ts';
import type { LndClient } from './lnd-client.ts';

const CLOSED = {
  channel_point: `${'ab'.repeat(32)}:1`,
  closing_tx_hash: 'cd'.repeat(32),
  close_height: 90,
  capacity: '1000',
  settled_balance: '400',
  open_initiator: 'INITIATOR_LOCAL',
  close_type: 'COOPERATIVE_CLOSE',
  resolutions: [],
};
const ANSWERS: Record<string, unknown> = {
  getInfo: { block_height: 100 },
  getTransactions: { transactions: [] },
  listChannels: { channels: [] },
  pendingChannels: {
    pending_open_channels: [],
    waiting_close_channels: [],
    pending_force_closing_channels: [],
  },
  closedChannels: { channels: [CLOSED] },
  forwardingHistory: { forwarding_events: [], last_offset_index: 0 },
  getBlockHash: { block_hash: new Uint8Array(32) },
};
/** An lnd that answers with a block that is cut off, which no real one can be made to do. */
const client = {
  ask: (_service: string, method: string) =>
    Promise.resolve(method === 'getBlock' ? { raw_block: new Uint8Array(100).fill(0xff) } : ANSWERS[method]),
} as unknown as LndClient;

test('a block that cannot be read costs the fee of one closing, not the books of the node', async () => {
  const { closed } = await lndBooks(client, 50, 0, new Map());
  assert.deepEqual(closed, [{ channel: CLOSED.channel_point, worth_msats: 400_000n }]);
});
