import type { Logger } from 'pino';
import type { Database } from '../core/db.ts';
import type { LightningNode, NodeIdentity } from '../lightning/node.ts';

// What "not found" means depends on whether a node still has its payment history. Its highest payment index
// only grows; one that is lower than before means that payments were forgotten (semantics.md section 3).

export interface NodeHistory {
  /** How often the node came back without its history. */
  epoch: number;
  /** Highest payment index seen. */
  index: bigint;
}

interface StoredState {
  identity: string | null;
  history_epoch: number;
  payment_index: bigint;
}

export interface NodeHistories {
  of(node_id: string): NodeHistory;
  /** Compares a node that has just connected with what is stored; throws when it is another node. */
  connected(node: LightningNode, identity: NodeIdentity): Promise<void>;
  /** Compares again; notices a history that went while the connection stood. */
  compare(node: LightningNode): Promise<void>;
  indexSeen(node_id: string, index: bigint): void;
  stop(): Promise<void>;
}

/** A burst of payments is one write; short, since what is not stored cannot be missed after a crash. */
const FLUSH_MS = 100;

/** Keeps how far each node's payment history goes, in memory and in the database. */
export function createHistories(db: Database, log: Logger): NodeHistories {
  const known = new Map<string, NodeHistory>();
  const dirty = new Set<string>();
  let timer: NodeJS.Timeout | null = null;
  let flushing: Promise<unknown> = Promise.resolve();

  const stored = async (node_id: string): Promise<StoredState | undefined> => {
    const [row] = await db.query<StoredState>(
      'SELECT identity, history_epoch, payment_index FROM node_state WHERE node_id = $1',
      [node_id],
      'read node state',
    );
    return row;
  };

  const raise = (node_id: string, index: bigint): Promise<unknown> =>
    db.query(
      'UPDATE node_state SET payment_index = $2 WHERE node_id = $1 AND payment_index < $2',
      [node_id, index],
      'raise payment index',
    );

  async function flush(): Promise<void> {
    timer = null;
    for (const node_id of dirty) {
      dirty.delete(node_id);
      await raise(node_id, known.get(node_id)?.index ?? 0n);
    }
  }

  async function compare(node: LightningNode): Promise<void> {
    // In this order: what another server stores after we asked the node may be higher than its answer.
    const before = await stored(node.id);
    const index = await node.paymentIndex();
    if (before && index < before.payment_index) {
      await db.query(
        `UPDATE node_state SET payment_index = $2, history_epoch = history_epoch + 1
         WHERE node_id = $1 AND history_epoch = $3`,
        [node.id, index, before.history_epoch],
      );
      const lost = { node_id: node.id, payment_index: index, stored: before.payment_index };
      log.error(lost, 'the node lost its payment history: sends that it does not know wait for the operator');
      dirty.delete(node.id);
    } else {
      await db.query(
        'INSERT INTO node_state (node_id, payment_index) VALUES ($1, $2) ON CONFLICT DO NOTHING',
        [node.id, index],
      );
      await raise(node.id, index);
    }
    const now = await stored(node.id);
    known.set(node.id, { epoch: now?.history_epoch ?? 0, index });
  }

  return {
    of: (node_id) => known.get(node_id) ?? { epoch: 0, index: 0n },
    async connected(node, { identity, chain, block_height }) {
      const before = await stored(node.id);
      if (before?.identity && before.identity !== identity) {
        throw new Error(`${identity} answers where ${before.identity} was: give another node another id`);
      }
      await compare(node);
      // A node's chain is read from where it was first met on: no address of ours is older.
      await db.query(
        `UPDATE node_state SET chain = $3, identity = $2,
           chain_height = CASE WHEN identity IS NULL AND chain_height = 0 THEN $4 ELSE chain_height END
         WHERE node_id = $1`,
        [node.id, identity, chain, block_height],
      );
    },
    compare,
    indexSeen(node_id, index) {
      const history = known.get(node_id);
      if (!history || index <= history.index) return;
      history.index = index;
      dirty.add(node_id);
      timer ??= setTimeout(() => {
        flushing = flush().catch((error: unknown) => log.warn({ err: error }, 'payment index not stored'));
      }, FLUSH_MS);
    },
    async stop() {
      if (timer) clearTimeout(timer);
      await flushing;
      await flush().catch(() => {});
    },
  };
}
