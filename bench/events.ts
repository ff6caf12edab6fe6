import { execFileSync, fork, spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { readCpu } from './cpu.ts';
import { openLoad, measure, type Load, type Measure } from './load.ts';
import type { Told } from './events-receiver.ts';

// npm run bench:events: a server in a process of its own on the embedded PostgreSQL, receivers and streams in another;
// this process writes events as payments write them, or loads the API.
const START_MS = 60_000;
const CALLERS = 64;

const folder = mkdtempSync(join(tmpdir(), 'coulomb-bench-'));
chmodSync(folder, 0o711);
const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const environment = {
  ...process.env,
  COULOMB_DATA_DIR: folder,
  COULOMB_PORT: '0',
  COULOMB_LOG_LEVEL: 'warn',
};
const server = spawn(process.execPath, [main, 'serve'], {
  env: environment,
  stdio: ['ignore', 'ignore', 'inherit'],
});

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));
const readEnv = (file: string): Record<string, string> =>
  Object.fromEntries(
    readFileSync(join(folder, file), 'utf8')
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );

const cpuOf = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
};
const residentMib = (): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${server.pid}/status`, 'utf8'))?.[1]) / 1024;

interface Place {
  db: pg.Client;
  load: Load;
  base: string;
  base_url: string;
  api_key: string;
  wallet_id: string;
  scope: [string, string];
  receiver: ChildProcess;
  receiver_url: string;
}

async function start(): Promise<Place> {
  const give_up_at = Date.now() + START_MS;
  while (!existsSync(join(folder, 'sandbox.env'))) {
    if (Date.now() > give_up_at) throw new Error('the server did not start');
    await pause(50);
  }
  const values = readEnv('sandbox.env');
  const value = (name: string): string => values[name] ?? '';
  const db = new pg.Client({ connectionString: readEnv('postgres.env')['DATABASE_URL'] });
  await db.connect();
  const receiver = fork(fileURLToPath(new URL('events-receiver.ts', import.meta.url)));
  const { port } = await answerOf<{ port: number }>(receiver);
  const postmaster = readFileSync(join(folder, 'postgres', 'postmaster.pid'), 'utf8').split('\n')[0] ?? '';
  const scope: [string, string] = [value('VOLTAGE_ORGANIZATION_ID'), value('VOLTAGE_ENVIRONMENT_ID')];
  return {
    db,
    load: openLoad(value('VOLTAGE_BASE_URL'), value('VOLTAGE_API_KEY'), CALLERS, () =>
      readCpu(server.pid ?? 0, postmaster),
    ),
    base: `/organizations/${scope[0]}/environments/${scope[1]}`,
    base_url: value('VOLTAGE_BASE_URL'),
    api_key: value('VOLTAGE_API_KEY'),
    wallet_id: value('VOLTAGE_WALLET_ID'),
    scope,
    receiver,
    receiver_url: `http://127.0.0.1:${port}/`,
  };
}

const answerOf = <T>(child: ChildProcess): Promise<T> =>
  new Promise((done) => child.once('message', (value) => done(value as T)));
const ask = <T>(place: Place, question: object): Promise<T> => {
  const answer = answerOf<T>(place.receiver);
  place.receiver.send(question);
  return answer;
};

async function register(place: Place, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let index = 0; index < count; index += 1) {
    const id = randomUUID();
    ids.push(id);
    await place.load.call('POST', `${place.base}/webhooks`, {
      id,
      url: place.receiver_url,
      name: 'bench',
      events: [{ receive: ['generated', 'succeeded', 'completed', 'failed'] }],
    });
  }
  return ids;
}
async function remove(place: Place, ids: readonly string[]): Promise<void> {
  for (const id of ids) await place.load.call('DELETE', `${place.base}/webhooks/${id}`);
}

/** Writes events as a batch of payments does, all in one transaction, and tells the servers; one a payment. */
async function writeEvents(place: Place, count: number): Promise<void> {
  await place.db.query(
    `INSERT INTO events (organization_id, environment_id, horizon, payment_id, wallet_id, type, event, payment, at)
     SELECT $1, $2, h.horizon, id.value, p.wallet_id, 'receive', 'completed',
       (to_jsonb(p) || jsonb_build_object('id', id.value, 'metadata',
         jsonb_build_object('bench_at_ms', (extract(epoch FROM clock_timestamp()) * 1000)::text)))::json, clock_timestamp()
     FROM (SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1,
             pg_current_xact_id()::text::bigint) AS horizon) h,
       (SELECT * FROM payments WHERE organization_id = $1 AND environment_id = $2 AND state = 'completed' LIMIT 1) p,
       LATERAL (SELECT gen_random_uuid() AS value FROM generate_series(1, $3)) id`,
    [...place.scope, count],
  );
  await place.db.query("SELECT pg_notify('coulomb_events', 'bench')");
}

const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
const one = (value: number): string => value.toFixed(1);

/** Everything that a number of registrations gets of a pile of events, as fast as it goes. */
async function throughput(place: Place, registrations: number, deliveries: number): Promise<string> {
  const ids = await register(place, registrations);
  await pause(1500);
  const events = Math.ceil(deliveries / registrations);
  await ask(place, { reset: true });
  const used = cpuOf(server.pid ?? 0);
  const began = performance.now();
  for (let written = 0; written < events; written += 250)
    await writeEvents(place, Math.min(250, events - written));
  let told: Told;
  do {
    await pause(20);
    told = await ask<Told>(place, { told: true });
  } while (told.count < events * registrations);
  const seconds = (performance.now() - began) / 1000;
  const cpu_us = ((cpuOf(server.pid ?? 0) - used) * 1e6) / (events * registrations);
  await remove(place, ids);
  const rate = Math.round((events * registrations) / seconds);
  say(`${registrations} registrations: ${rate} deliveries/s`);
  return `| ${registrations} | ${events * registrations} | ${rate} | ${Math.round(cpu_us)} |`;
}

/** Latency from commit to receiver at a steady pace. */
async function latency(
  place: Place,
  registrations: number,
  per_second: number,
  seconds: number,
): Promise<string> {
  const ids = await register(place, registrations);
  await pause(1500);
  await ask(place, { reset: true });
  const count = per_second * seconds;
  const began = performance.now();
  for (let index = 0; index < count; index += 1) {
    await writeEvents(place, 1);
    const due = began + ((index + 1) * 1000) / per_second;
    if (due > performance.now()) await pause(due - performance.now());
  }
  await pause(1000);
  const { latencies_ms } = await ask<Told>(place, { told: true });
  await remove(place, ids);
  const sorted = latencies_ms.toSorted((a, b) => a - b);
  say(`latency at ${per_second}/s to ${registrations}: p50 ${one(at(sorted, 0.5))} ms`);
  return `| ${registrations} | ${per_second} | ${sorted.length} | ${one(at(sorted, 0.5))} | ${one(at(sorted, 0.99))} |`;
}

/** Many open streams: memory of the server, and how late they hear. */
async function streams(place: Place, count: number, per_second: number, seconds: number): Promise<string> {
  const before_mib = residentMib();
  const url = `${place.base_url}${place.base}/events`;
  await ask(place, { open: count, url, api_key: place.api_key });
  await pause(2000);
  await ask(place, { reset: true });
  const began = performance.now();
  for (let index = 0; index < per_second * seconds; index += 1) {
    await writeEvents(place, 1);
    const due = began + ((index + 1) * 1000) / per_second;
    if (due > performance.now()) await pause(due - performance.now());
  }
  await pause(1500);
  const mib = residentMib() - before_mib;
  const { latencies_ms } = await ask<Told>(place, { told: true });
  await ask(place, { open: 0, url, api_key: place.api_key });
  const sorted = latencies_ms.toSorted((a, b) => a - b);
  say(`${count} streams: ${one(mib)} MiB, p99 ${one(at(sorted, 0.99))} ms`);
  return `| ${count} | ${per_second} | ${sorted.length} of ${count * per_second * seconds} | ${one(mib)} | ${one(at(sorted, 0.5))} | ${one(at(sorted, 0.99))} |`;
}

/** Receives end to end, with a number of registrations. */
async function payments(place: Place, registrations: number, count: number): Promise<Measure> {
  const ids = await register(place, registrations);
  await pause(1500);
  const measured = await measure(place.load, Array.from({ length: count }), CALLERS, () => receive(place));
  await pause(3000);
  await remove(place, ids);
  say(`${registrations} registrations: ${Math.round(measured.per_second)} receives/s`);
  return measured;
}

async function receive(place: Place): Promise<void> {
  const id = randomUUID();
  await place.load.call('POST', `${place.base}/payments`, {
    id,
    wallet_id: place.wallet_id,
    payment_kind: 'bolt11',
    amount: { currency: 'btc', amount: 1000 },
  });
  for (;;) {
    const shown = JSON.parse(await place.load.call('GET', `${place.base}/payments/${id}`)) as {
      data: { payment_request: string | null };
    };
    if (shown.data.payment_request === null) continue;
    await place.load.call('POST', `${place.base}/sandbox/payments`, {
      payment_request: shown.data.payment_request,
    });
    return;
  }
}

async function report(place: Place): Promise<string> {
  await measure(place.load, Array.from({ length: 500 }), CALLERS, () => receive(place));
  const many = await streams(place, 1000, 10, 10);
  const rates: Measure[][] = [[], []];
  for (let round = 0; round < 3; round += 1) {
    rates[0]?.push(await payments(place, 0, 1500));
    rates[1]?.push(await payments(place, 1, 1500));
  }
  const [without, with_one] = rates.map((all) => all.toSorted((a, b) => a.per_second - b.per_second)[1]);
  if (!without || !with_one) throw new Error('nothing was measured');
  const cpu = ({ cpu_us }: Measure): string =>
    `${Math.round(cpu_us.server)} + ${Math.round(cpu_us.database)} us`;
  const through = [
    await throughput(place, 1, 10_000),
    await throughput(place, 10, 10_000),
    await throughput(place, 100, 10_000),
  ];
  const late = [await latency(place, 1, 100, 10), await latency(place, 10, 20, 10)];
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim();
  return `# Events: webhooks and streams

${new Date().toISOString().slice(0, 10)}, commit ${commit}, ${cpus().length} x ${cpus()[0]?.model ?? 'CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version},
embedded PostgreSQL 18 with fsync and synchronous_commit on. Server, database, receivers and load share the cores.
Events are written as payments write them; the receiver is one process that answers 200 at once.

## Deliveries, as fast as they go

| registrations | deliveries | per second | server CPU us each |
| ---: | ---: | ---: | ---: |
${through.join('\n')}

## From commit to receiver

| registrations | events/s | deliveries | p50 ms | p99 ms |
| ---: | ---: | ---: | ---: | ---: |
${late.join('\n')}

## Streams

All in one environment, so each event goes to all of them.

| streams | events/s | received | server memory for them, MiB | p50 ms | p99 ms |
| ---: | ---: | ---: | ---: | ---: | ---: |
${many}

## Payments beside webhooks

Receives end to end, medians of three runs in turn: without a registration ${Math.round(without.per_second)}/s (CPU of
server + database ${cpu(without)} each), with one that gets all three events ${Math.round(with_one.per_second)}/s (${cpu(with_one)}):
${(with_one.per_second / without.per_second).toFixed(2)} of it.
`;
}

try {
  const place = await start();
  const text = await report(place);
  say(text);
  writeFileSync(new URL('RESULTS-events.md', import.meta.url), text);
  place.receiver.kill();
  await place.load.close();
  await place.db.end();
} finally {
  const gone = new Promise((done) => server.once('exit', done));
  server.kill('SIGTERM');
  await gone;
  rmSync(folder, { recursive: true, force: true });
}
