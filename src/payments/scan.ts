import { toMsats } from '../core/money.ts';
import type { ChainTransaction, LightningNode } from '../lightning/node.ts';
import {
  chainReceiveCommand,
  chainSendCommand,
  isRipe,
  outputCalls,
  outputId,
  type ChainView,
  type OutputNow,
} from './chain.ts';
import { advance, confirmationsOn, type Engine } from './engine.ts';
import { findTargets, findChainSends, watchedOutputs } from './store.ts';
import { refKey, type PaymentRef, type SeenOutput } from './types.ts';

// What does the node's wallet show? Run when a node says that its chain changed, and every ten seconds whether or not it
// does. Reads and compares only; what follows is decided by the commands of `chain.ts`, so that two servers may scan at once.

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
  // Back to the oldest output that may still be taken back: that it is not there any more has to be seen, too.
  const heights = watched.flatMap(({ height }) => (height === null ? [] : [height]));
  const required_confirmations = confirmationsOn(engine, node);
  const overlap = Math.max(OVERLAP_BLOCKS, required_confirmations);
  const since = Math.max(0, Math.min((state?.chain_height ?? 0) - overlap, ...heights));
  const { tip_height, transactions } = await node.transactions(since);
  const view: ChainView = { node_id: node.id, tip_height, required_confirmations };
  await Promise.all([
    scanReceives(engine, view, watched, transactions),
    scanSends(engine, view, transactions),
  ]);
  // Last: a process that dies before this reads the same blocks again, and finds nothing to do.
  await engine.db.query(
    `INSERT INTO node_state (node_id, chain_height) VALUES ($1, $2)
     ON CONFLICT (node_id) DO UPDATE SET chain_height = excluded.chain_height
     WHERE node_state.chain_height <> excluded.chain_height`,
    [node.id, tip_height],
    'remember chain height',
  );
}

const outputsOf = ({ tx_id, height, mined_at, outputs }: ChainTransaction): OutputNow[] =>
  outputs.map(({ vout, address, amount_sats }) => ({
    tx_id,
    vout,
    address,
    amount: toMsats(amount_sats),
    height,
    mined_at,
  }));

/** An address of ours: what is stored of the outputs to it, and what the chain shows of them now. */
interface Watched {
  ref: PaymentRef;
  stored: Map<string, SeenOutput>;
  now: OutputNow[];
}

async function scanReceives(
  engine: Engine,
  view: ChainView,
  watched: readonly SeenOutput[],
  transactions: readonly ChainTransaction[],
): Promise<void> {
  const outputs = transactions.flatMap(outputsOf);
  const addresses = [...new Set(outputs.map(({ address }) => address))];
  const keys = addresses.map((key) => ({ kind: 'address' as const, key }));
  const targets = keys.length > 0 ? await findTargets(engine.db, keys) : [];
  const byAddress = new Map(
    targets.filter(({ node_id }) => node_id === view.node_id).map((target) => [target.key, target]),
  );
  const found = new Map<string, Watched>();
  const entryOf = (ref: PaymentRef): Watched => {
    const entry = found.get(refKey(ref)) ?? { ref, stored: new Map(), now: [] };
    found.set(refKey(ref), entry);
    return entry;
  };
  for (const output of watched)
    entryOf({ ...output, id: output.payment_id }).stored.set(outputId(output), output);
  for (const output of outputs) {
    const target = byAddress.get(output.address);
    if (target) entryOf(target).now.push(output);
  }
  await Promise.all(
    [...found.values()].map(async ({ ref, stored, now }) => {
      const present = new Set(now.map(outputId));
      const calls =
        now.some((output) => outputCalls(view, stored.get(outputId(output)), output)) ||
        [...stored.keys()].some((id) => !present.has(id));
      if (calls) await advance(engine, ref, chainReceiveCommand(ref, view, now));
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
      // Its height is written once, and then its end: blocks between the two change nothing.
      if (!seen || (send.height === seen.height && !isRipe(view, seen.height))) return;
      await advance(engine, send, chainSendCommand(send, view, seen));
    }),
  );
}
