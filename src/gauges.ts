import { within, type Clock } from './core/clock.ts';
import type { Database } from './core/db.ts';
import type { Metrics, Readings } from './core/metrics.ts';
import type { Rate } from './core/rate.ts';
import { positions } from './ledger/rollup.ts';
import type { LightningNode } from './lightning/node.ts';
import type { createNodeBooks } from './nodes/books.ts';
import type { PaymentEngine } from './payments/payments.ts';
import type { Rates } from './quotes/rates.ts';

// What an operator watches. A gauge is read whenever /metrics is, on the pool of the requests: it may ask for what is
// under way, or for sums that are kept, never for all that is stored. A value is a double, as all of Prometheus:
// amounts above 2^53 are rounded here, and nowhere else.

/** Whatever is under way has a job, so nothing has to look for it among the payments that ended. */
const JOBS_WITH_PAYMENTS = `jobs j
  JOIN payments p ON p.organization_id = j.organization_id AND p.environment_id = j.environment_id
    AND p.id = j.payment_id`;

/** What an operator watches of payments and the database. */
export function addPaymentGauges(metrics: Metrics, db: Database, payments: PaymentEngine): void {
  metrics.gauge('coulomb_queue_depth', 'Commands that wait for their batch', [], () => [
    [{}, payments.queueDepth()],
  ]);
  metrics.gauge('coulomb_database_connections', 'Connections of the pool', ['state'], () => {
    const { total, idle, waiting } = db.stats();
    return [
      [{ state: 'open' }, total],
      [{ state: 'idle' }, idle],
      [{ state: 'waited_for' }, waiting],
    ];
  });
  metrics.gauge(
    'coulomb_payments_in_flight',
    'Payments that somebody still has to move, by state',
    ['state'],
    async () => {
      const rows = await db.query<{ state: string; count: bigint }>(
        `SELECT p.state, count(*) AS count FROM ${JOBS_WITH_PAYMENTS} GROUP BY p.state`,
      );
      return rows.map(({ state, count }) => [{ state }, Number(count)]);
    },
  );
  metrics.gauge(
    // One that is stuck is found by its age, not by a restart (threat 4).
    'coulomb_oldest_send_in_flight_seconds',
    'Age of the oldest send that has not ended',
    [],
    async () => {
      const [row] = await db.query<{ age: number | null }>(
        `SELECT extract(epoch FROM now() - min(p.created_at))::float8 AS age FROM ${JOBS_WITH_PAYMENTS}
         WHERE j.kind IN ('dispatch', 'internal', 'track', 'chain')`,
      );
      return [[{}, row?.age ?? 0]];
    },
  );
  metrics.gauge(
    'coulomb_operator_position',
    "Balance of the operator's own accounts in base units: exchange (its position), fees earned, money in suspense",
    ['account', 'currency'],
    async () =>
      (await positions(db)).map(({ kind, currency, balance }) => [
        { account: kind, currency },
        Number(balance),
      ]),
  );
}

/** What says whether the books are right, node by node (threat 9). */
export function addNodeGauges(
  metrics: Metrics,
  nodes: readonly LightningNode[],
  books: ReturnType<typeof createNodeBooks>,
): void {
  metrics.gauge(
    'coulomb_node_drift_msats',
    'Worth of a node minus the ledger; 0 when nothing moves',
    ['node'],
    async () => {
      const drifts = await Promise.all(
        nodes.map(async (node): Promise<Readings> => {
          // A node that is away has no worth to compare; the gauge below says so.
          if (!node.reachable()) return [];
          // What the node did by itself since the last look is booked first, or it would count as drift.
          await within(books.book(node));
          const { drift_msats } = await within(books.compare(node));
          return [[{ node: node.id }, Number(drift_msats)]];
        }),
      );
      return drifts.flat();
    },
  );
  metrics.gauge('coulomb_node_reachable', '1 while a connection to the node stands', ['node'], () =>
    nodes.map((node) => [{ node: node.id }, node.reachable() ? 1 : 0]),
  );
}

/** What the sources say, and which of them are out of step. */
export function addRateGauges(metrics: Metrics, clock: Clock, rates: Rates): void {
  const cents = ({ coefficient, scale }: Rate): number => Number(coefficient) / 10 ** scale;
  metrics.gauge(
    'coulomb_rate_cents_per_btc',
    'What each source said last; `median` is what is quoted',
    ['source'],
    () => {
      const { readings, result } = rates.readings();
      const median = result.rate ? [{ source: 'median', rate: result.rate }] : [];
      return [...readings, ...median].map(({ source, rate }) => [{ source }, cents(rate)]);
    },
  );
  metrics.gauge('coulomb_rate_age_seconds', 'Age of what each source said last', ['source'], () =>
    rates.readings().readings.map(({ source, at_ms }) => [{ source }, (clock.now() - at_ms) / 1000]),
  );
  metrics.gauge(
    'coulomb_rate_source_left_out',
    '1 for a source that is far from the median',
    ['source'],
    () => rates.readings().result.left_out.map((source) => [{ source }, 1]),
  );
}
