import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

/** Values by their labels. */
export type Readings = [labels: Record<string, string>, value: number][];

/** What the slices count with: they know nothing of the library behind it. */
export interface Metrics {
  registry: Registry;
  request(operation_id: string, status: number, seconds: number): void;
  /** A counter with one label; answers how to count. */
  counter(name: string, help: string, label: string): (value: string, count?: number) => void;
  /** A gauge whose value is read when it is scraped. */
  gauge(name: string, help: string, labels: string[], read: () => Readings | Promise<Readings>): void;
}

/** The metrics of this process, `coulomb_…`, beside Node's own (event-loop delay, memory). */
export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = new Counter({
    name: 'coulomb_requests_total',
    help: 'Requests answered, by operation and status',
    labelNames: ['operation', 'status'],
    registers: [registry],
  });
  const latency = new Histogram({
    name: 'coulomb_request_seconds',
    help: 'Time from a request to its answer',
    labelNames: ['operation'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 10],
    registers: [registry],
  });
  return {
    registry,
    request(operation, status, seconds) {
      requests.inc({ operation, status });
      latency.observe({ operation }, seconds);
    },
    counter(name, help, label) {
      const counter = new Counter({ name, help, labelNames: [label], registers: [registry] });
      return (value, count = 1) => counter.inc({ [label]: value }, count);
    },
    gauge(name, help, labelNames, read) {
      registry.registerMetric(
        new Gauge({
          name,
          help,
          labelNames,
          registers: [],
          async collect() {
            this.reset();
            for (const [labels, value] of await read()) this.set(labels, value);
          },
        }),
      );
    },
  };
}
