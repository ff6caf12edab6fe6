import { MSATS_PER_SAT } from '../core/money.ts';
import type { ChainTransaction, LightningNode } from '../lightning/node.ts';
import {
  chainReceiveCommand,
  chainSendCommand,
  outputCalls,
  type ChainView,
  type OutputNow,
} from './chain.ts';
import { attempt, type Engine } from './engine.ts';
import { findTargets, findChainSends, watchedOutputs } from './store.ts';
import { refKey, refOf, type PaymentRef, type SeenOutput } from './types.ts';

/** Outputs are watched for reorganizations until they are this deep. */
const FINAL_CONFIRMATIONS = 100;
/** Re-read behind the last height that was read: a shallow reorganization replaces those blocks. */
const OVERLAP_BLOCKS = 6;

/** Reads the node's wallet from the last height on and moves what its transactions belong to. */
export async function scanChain(engine: Engine, node: LightningNode): Promise<void> {
  const watched = await watchedOutputs(engine.db, node.id);
  const [state] = await engine.db.query<{ chain_height: number }>(
    'SELECT chain_height FROM node_state WHERE node_id = $1',
    [node.id],
    'read chain height',
  );
  const heights = watched.flatMap(({ height }) => (height === null ? [] : [height]));
  const required_confirmations = engine.config.confirmations[node.network] ?? 1;
  const overlap = Math.max(OVERLAP_BLOCKS, required_confirmations);
  const since = Math.max(0, Math.min((state?.chain_height ?? 0) - overlap, ...heights));
  const { tip_height, transactions } = await node.transactions(since);
  const view: ChainView = {
    node_id: node.id,
    tip_height,
    required_confirmations,
    final_confirmations: FINAL_CONFIRMATIONS,
  };
  await Promise.all([
    scanReceives(engine, view, watched, transactions),
    scanSends(engine, view, transactions),
  ]);
  await engine.db.query(
    `INSERT INTO node_state (node_id, chain_height) VALUES ($1, $2)
     ON CONFLICT (node_id) DO UPDATE SET chain_height = excluded.chain_height
     WHERE node_state.chain_height <> excluded.chain_height`,
    [node.id, tip_height],
    'remember chain height',
  );
}

const outputId = (output: { tx_id: string; vout: number }): string => `${output.tx_id}:${output.vout}`;

function outputsNow(transactions: readonly ChainTransaction[]): OutputNow[] {
  return transactions.flatMap(({ tx_id, height, mined_at, outputs }) =>
    outputs.map(({ vout, address, amount_sats }) => ({
      tx_id,
      vout,
      address,
      amount: amount_sats * MSATS_PER_SAT,
      height,
      mined_at,
    })),
  );
}

async function scanReceives(
  engine: Engine,
  view: ChainView,
  watched: readonly SeenOutput[],
  transactions: readonly ChainTransaction[],
): Promise<void> {
  const outputs = outputsNow(transactions);
  const keys = [...new Set(outputs.map(({ address }) => address))].map((key) => ({
    kind: 'address' as const,
    key,
  }));
  const targets = keys.length > 0 ? await findTargets(engine.db, keys) : [];
  const byAddress = new Map(
    targets.filter((target) => target.node_id === view.node_id).map((t) => [t.key, t]),
  );
  const found = new Map<string, { ref: PaymentRef; now: OutputNow[] }>();
  for (const { organization_id, environment_id, payment_id } of watched) {
    const ref = { organization_id, environment_id, id: payment_id };
    found.set(refKey(ref), { ref, now: [] });
  }
  for (const output of outputs) {
    const target = byAddress.get(output.address);
    if (!target) continue;
    const entry = found.get(refKey(target)) ?? { ref: refOf(target), now: [] };
    entry.now.push(output);
    found.set(refKey(target), entry);
  }
  const known = Map.groupBy(watched, ({ organization_id, environment_id, payment_id }) =>
    refKey({ organization_id, environment_id, id: payment_id }),
  );
  await Promise.all(
    [...found].map(async ([key, { ref, now }]) => {
      const stored = new Map((known.get(key) ?? []).map((output) => [outputId(output), output]));
      const present = new Set(now.map(outputId));
      const calls =
        now.some((output) => outputCalls(view, stored.get(outputId(output)), output)) ||
        [...stored.keys()].some((id) => !present.has(id));
      if (calls) await attempt(engine, ref, engine.writer.advance(chainReceiveCommand(ref, view, now)));
    }),
  );
}

async function scanSends(
  engine: Engine,
  view: ChainView,
  transactions: readonly ChainTransaction[],
): Promise<void> {
  const byId = new Map(transactions.map((transaction) => [transaction.tx_id, transaction]));
  const sends = byId.size > 0 ? await findChainSends(engine.db, view.node_id, [...byId.keys()]) : [];
  await Promise.all(
    sends.map(async (send) => {
      const seen = byId.get(send.tx_id);
      const confirmations = seen?.height === null || !seen ? 0 : view.tip_height - seen.height + 1;
      if (!seen || (send.height === seen.height && confirmations < view.required_confirmations)) return;
      await attempt(engine, send, engine.writer.advance(chainSendCommand(refOf(send), view, seen)));
    }),
  );
}
