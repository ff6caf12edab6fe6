import type { Logger } from 'pino';
import { timeText, type Clock } from '../core/clock.ts';
import type { Sql } from '../core/db.ts';
import type { EnvironmentRef } from '../core/ids.ts';
import { formatRate, readRate, type Rate } from '../core/rate.ts';
import { judgeReadings, type MedianResult, type Reading } from './median.ts';
import { askSource, type FetchBounds, type Source } from './sources.ts';
import { walkedRate } from './walk.ts';

// What a bitcoin costs now. Each server asks the public sources by itself and keeps what they said last; nothing is
// stored, and nobody waits for a source: without enough fresh answers there is no rate, and no exchange.

/** A rate, and when it was the market's. */
export interface Market {
  rate: Rate;
  quoted_at: string;
}

export interface RatesConfig extends FetchBounds {
  sources: readonly Source[];
  poll_ms: number;
  max_age_ms: number;
  max_deviation_bps: number;
  quorum: number;
  sandbox_rate: Rate;
}

/** Where a rate is asked for. */
export interface RateScope extends EnvironmentRef {
  /** Whether it is for wallets of the sandbox: their rate is their environment's own. */
  sandbox: boolean;
}

export interface Rates {
  /** The rate of the public sources now; null below the quorum. */
  market(): Market | null;
  /** The rate of a sandbox environment: what it holds, or where the walk is. */
  sandbox(environment_id: string, held: string | null): Market;
  /** Either, for whoever has nothing at hand: reads what the environment holds. */
  current(sql: Sql, scope: RateScope): Promise<Market | null>;
  /** What every source said last, and who is left out, for metrics. */
  readings(): { readings: readonly Reading[]; result: MedianResult };
  start(): void;
  stop(): Promise<void>;
}

/**
 * Asks the sources on a timer, all at once; one that hangs or lies holds up and moves nothing. While a round is under way
 * no other begins: it ends by the timeout of its slowest source, and what the others said counts as soon as they said it.
 */
export function createRates(deps: { clock: Clock; log: Logger; config: RatesConfig }): Rates {
  const { clock, log, config } = deps;
  // What a source said stays when it answers no more: its age ends it, not a question that failed.
  const last = new Map<string, Reading>();
  const silent = new Map<string, string>();
  const stopping = new AbortController();
  let left_out = '';
  let timer: NodeJS.Timeout | null = null;
  let polling: Promise<unknown> | null = null;

  async function ask(source: Source): Promise<void> {
    // A price is as old as the question that it answers.
    const at_ms = clock.now();
    try {
      const rate = await askSource(source, config, stopping.signal);
      last.set(source.name, { source: source.name, rate, at_ms });
      if (silent.delete(source.name)) log.info({ source: source.name }, 'rate source answers again');
    } catch (error) {
      if (stopping.signal.aborted) return;
      // Said when the reason changes, not at every round.
      const reason = (error as Error).message;
      if (silent.get(source.name) === reason) return;
      silent.set(source.name, reason);
      log.warn({ source: source.name, reason }, 'rate source does not answer');
    }
  }
  const judge = (): MedianResult => judgeReadings([...last.values()], { ...config, now_ms: clock.now() });

  function poll(): void {
    polling ??= Promise.all(config.sources.map(ask)).then(() => {
      polling = null;
      const names = judge().left_out.join(', ');
      if (names !== left_out && names !== '')
        log.warn({ sources: names }, 'rate sources left out: far from the median');
      left_out = names;
    });
  }

  const rates: Rates = {
    market() {
      const { rate, at_ms } = judge();
      return rate && { rate, quoted_at: timeText(at_ms) };
    },
    sandbox: (environment_id, held) => ({
      rate: held === null ? walkedRate(environment_id, config.sandbox_rate, clock.now()) : readRate(held),
      quoted_at: timeText(clock.now()),
    }),
    async current(sql, scope) {
      if (!scope.sandbox) return rates.market();
      return rates.sandbox(scope.environment_id, await heldRate(sql, scope));
    },
    readings: () => ({ readings: [...last.values()], result: judge() }),
    start() {
      if (config.sources.length === 0) return;
      poll();
      timer = setInterval(poll, config.poll_ms);
    },
    async stop() {
      if (timer) clearInterval(timer);
      stopping.abort();
      await polling;
    },
  };
  return rates;
}

/** The rate that a sandbox environment holds; null when it walks. */
export async function heldRate(sql: Sql, scope: EnvironmentRef): Promise<string | null> {
  const [row] = await sql.query<{ rate: string }>(
    'SELECT rate FROM sandbox_rates WHERE organization_id = $1 AND environment_id = $2',
    [scope.organization_id, scope.environment_id],
    'held rate',
  );
  return row?.rate ?? null;
}

/** Holds a sandbox environment's rate, or lets it walk again. */
export async function holdRate(
  sql: Sql,
  scope: EnvironmentRef,
  rate: Rate | null,
  at: string,
): Promise<void> {
  const key = [scope.organization_id, scope.environment_id];
  if (!rate) {
    await sql.query('DELETE FROM sandbox_rates WHERE organization_id = $1 AND environment_id = $2', key);
    return;
  }
  await sql.query(
    `INSERT INTO sandbox_rates (organization_id, environment_id, rate, set_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT (organization_id, environment_id) DO UPDATE SET rate = excluded.rate, set_at = excluded.set_at`,
    [...key, formatRate(rate), at],
  );
}
