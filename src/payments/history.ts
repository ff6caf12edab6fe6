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

/** A burst of payments is one write; short, since what is not stored cannot be missed after a crash. */
const FLUSH_MS = 100;

/** Keeps how far each node's payment history goes, in memory and in the database. */
export class NodeHistories {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #known = new Map<string, NodeHistory>();
  readonly #dirty = new Set<string>();
  #timer: NodeJS.Timeout | null = null;
  #flushing: Promise<unknown> = Promise.resolve();

  constructor(db: Database, log: Logger) {
    this.#db = db;
    this.#log = log;
  }

  of(node_id: string): NodeHistory {
    return this.#known.get(node_id) ?? { epoch: 0, index: 0n };
  }

  /** Compares a node that has just connected with what is stored; throws when it is another node. */
  async connected(node: LightningNode, { identity, chain, block_height }: NodeIdentity): Promise<void> {
    const before = await this.#stored(node.id);
    if (before?.identity && before.identity !== identity) {
      throw new Error(`${identity} answers where ${before.identity} was: give another node another id`);
    }
    await this.compare(node);
    // A node's chain is read from where it was first met on: no address of ours is older.
    await this.#db.query(
      `UPDATE node_state SET chain = $3, identity = $2,
         chain_height = CASE WHEN identity IS NULL AND chain_height = 0 THEN $4 ELSE chain_height END
       WHERE node_id = $1`,
      [node.id, identity, chain, block_height],
    );
  }

  /** Compares again; notices a history that went while the connection stood. */
  async compare(node: LightningNode): Promise<void> {
    // In this order: what another server stores after we asked the node may be higher than its answer.
    const before = await this.#stored(node.id);
    const index = await node.paymentIndex();
    if (before && index < before.payment_index) await this.#lost(node.id, index, before);
    else await this.#raise(node.id, index);
    const now = await this.#stored(node.id);
    this.#known.set(node.id, { epoch: now?.history_epoch ?? 0, index });
  }

  /** The node paid up to here. Not awaited by who pays: a crash before the flush only makes a loss a little harder to see. */
  indexSeen(node_id: string, index: bigint): void {
    const history = this.#known.get(node_id);
    if (!history || index <= history.index) return;
    history.index = index;
    this.#dirty.add(node_id);
    this.#timer ??= setTimeout(() => {
      this.#flushing = this.#flush().catch((error: unknown) =>
        this.#log.warn({ err: error }, 'payment index not stored'),
      );
    }, FLUSH_MS);
  }

  async stop(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    await this.#flushing;
    await this.#flush().catch(() => {});
  }

  async #stored(node_id: string): Promise<StoredState | undefined> {
    const [row] = await this.#db.query<StoredState>(
      'SELECT identity, history_epoch, payment_index FROM node_state WHERE node_id = $1',
      [node_id],
      'read node state',
    );
    return row;
  }

  async #lost(node_id: string, payment_index: bigint, before: StoredState): Promise<void> {
    // Once, though several servers notice: the epoch that each of them read is raised by the first.
    await this.#db.query(
      `UPDATE node_state SET payment_index = $2, history_epoch = history_epoch + 1
       WHERE node_id = $1 AND history_epoch = $3`,
      [node_id, payment_index, before.history_epoch],
    );
    this.#log.error(
      { node_id, payment_index, stored: before.payment_index },
      'the node lost its payment history: sends that it does not know wait for the operator',
    );
    this.#dirty.delete(node_id);
  }

  /** Never lowers it: another server may have seen more. */
  #raise(node_id: string, index: bigint): Promise<unknown> {
    return this.#db.query(
      `INSERT INTO node_state (node_id, payment_index) VALUES ($1, $2)
       ON CONFLICT (node_id) DO UPDATE SET payment_index = excluded.payment_index
       WHERE node_state.payment_index < excluded.payment_index`,
      [node_id, index],
      'raise payment index',
    );
  }

  async #flush(): Promise<void> {
    this.#timer = null;
    for (const node_id of this.#dirty) {
      this.#dirty.delete(node_id);
      await this.#raise(node_id, this.of(node_id).index);
    }
  }
}
