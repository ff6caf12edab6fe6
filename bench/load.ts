import { Pool } from 'undici';
import type { CpuSeconds } from './cpu.ts';

export interface Load {
  /** What all the processes have used so far. */
  cpu(): CpuSeconds;
  /** One request on one of the connections; throws for an unexpected status. Answers the body's text. */
  call(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<string>;
  close(): Promise<void>;
}

/** A bounded set of keep-alive connections to the server under load. */
export function openLoad(
  base_url: string,
  api_key: string,
  connections: number,
  cpu: () => CpuSeconds,
): Load {
  const url = new URL(base_url);
  const pool = new Pool(url.origin, { connections, pipelining: 1 });
  const prefix = url.pathname;
  return {
    cpu,
    async call(method, path, body) {
      const response = await pool.request({
        method,
        path: prefix + path,
        headers: {
          'x-api-key': api_key,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.body.text();
      if (response.statusCode > 299) throw new Error(`${method} ${path}: ${response.statusCode} ${text}`);
      return text;
    },
    close: () => pool.close(),
  };
}

export interface Measure {
  count: number;
  seconds: number;
  per_second: number;
  p50_ms: number;
  p99_ms: number;
  /** CPU time per operation, in microseconds. */
  cpu_us: CpuSeconds;
}

/**
 * Runs `work` for every item, `callers` at a time; latency is that of `work`. `until` is waited for
 * before the clock stops: what counts is what is finished, not what was accepted.
 */
export async function measure<T>(
  load: Load,
  items: readonly T[],
  callers: number,
  work: (item: T) => Promise<unknown>,
  until: () => Promise<void> = () => Promise.resolve(),
): Promise<Measure> {
  const latencies: number[] = [];
  let next = 0;
  const used = load.cpu();
  const started = performance.now();
  const caller = async (): Promise<void> => {
    for (;;) {
      const index = next;
      next += 1;
      if (index >= items.length) return;
      const begun = performance.now();
      await work(items[index] as T);
      latencies.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: callers }, caller));
  await until();
  const seconds = (performance.now() - started) / 1000;
  const now = load.cpu();
  const spent = (who: keyof CpuSeconds): number => ((now[who] - used[who]) * 1e6) / items.length;
  latencies.sort((a, b) => a - b);
  const at = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
  return {
    count: items.length,
    seconds,
    per_second: items.length / seconds,
    p50_ms: at(0.5),
    p99_ms: at(0.99),
    cpu_us: { server: spent('server'), database: spent('database'), client: spent('client') },
  };
}
