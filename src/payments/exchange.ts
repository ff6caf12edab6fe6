import { withSpread } from '../core/rate.ts';
import { advance, PAUSE_MS, type Engine, type Step } from './engine.ts';
import { exchangeCommand } from './receive.ts';
import { refOf, type Payment } from './types.ts';

/**
 * Turns money in suspense into dollars as soon as there is a rate (semantics.md section 4). One after the other: rate and
 * spread are those of the moment at which each is exchanged.
 */
export const exchange: Step = async (engine, { sandbox }, payments) => {
  for (const payment of payments) {
    const market = await engine.currentRate({ ...refOf(payment), sandbox });
    if (!market) {
      engine.log.info({ payment_id: payment.id }, 'no rate for money in suspense yet');
      await engine.jobs.putBack([payment], PAUSE_MS.long);
      continue;
    }
    const rate = withSpread(market.rate, await spreadOf(engine, payment), 'down');
    await advance(engine, payment, exchangeCommand(payment, { ...market, rate }));
  }
};

async function spreadOf(engine: Engine, payment: Payment): Promise<number> {
  const [line] = await engine.db.query<{ spread_bps: number }>(
    'SELECT spread_bps FROM lines_of_credit WHERE organization_id = $1 AND id = $2',
    [payment.organization_id, payment.line_of_credit_id],
    'spread of line',
  );
  return line?.spread_bps ?? 0;
}
