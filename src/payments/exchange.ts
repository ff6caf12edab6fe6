import { withSpread, type Rate } from '../core/rate.ts';
import { attempt, later, nodeOf, PAUSE_MS, type Engine } from './engine.ts';
import { exchangeCommand } from './receive.ts';
import { refOf, type Payment } from './types.ts';

/** The market's rate now, for the environments of a node; null while there is none. */
export type CurrentRate = (scope: {
  organization_id: string;
  environment_id: string;
  sandbox: boolean;
}) => Promise<{ rate: Rate; quoted_at: string } | null>;

/** Turns money in suspense into dollars as soon as there is a rate (semantics.md section 4). */
export async function exchange(engine: Engine, payments: readonly Payment[]): Promise<void> {
  for (const payment of payments) {
    const { sandbox } = nodeOf(engine, payment.node_id);
    const market = await engine.currentRate({ ...refOf(payment), sandbox });
    if (!market) {
      engine.log.info({ payment_id: payment.id }, 'no rate for money in suspense yet');
      await engine.jobs.putBack([refOf(payment)], later(engine, PAUSE_MS.long));
      continue;
    }
    const rate = withSpread(market.rate, await spreadOf(engine, payment), 'down');
    await attempt(
      engine,
      payment,
      engine.writer.advance(exchangeCommand(refOf(payment), { ...market, rate })),
    );
  }
}

async function spreadOf(engine: Engine, payment: Payment): Promise<number> {
  const [line] = await engine.db.query<{ spread_bps: number }>(
    'SELECT spread_bps FROM lines_of_credit WHERE organization_id = $1 AND id = $2',
    [payment.organization_id, payment.line_of_credit_id],
    'spread of line',
  );
  return line?.spread_bps ?? 0;
}
