import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { openLoad, type Measure } from './load.ts';
import { readCpu } from './cpu.ts';
import { everything, type Place } from './scenarios.ts';

// npm run bench [-- --count N] [-- --stored N]: a server in a process of its own on the embedded PostgreSQL
// with its default durability; this process is the load, over HTTP.
const CONNECTIONS = 64;
const WALLETS = 1000;
/** Per wallet, in msats or cents: more than all scenarios send. */
const CAPITAL = { btc: 100_000_000_000n, usd: 10_000_000_000n };
const START_MS = 60_000;

const option = (name: string, fallback: number): number => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? fallback : Number(process.argv[at + 1]);
};
const count = option('count', 10_000);
const stored = option('stored', 1_000_000);

const folder = mkdtempSync(join(tmpdir(), 'coulomb-bench-'));
chmodSync(folder, 0o711);
const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const profile = process.argv.includes('--profile')
  ? ['--cpu-prof', '--cpu-prof-dir', join(tmpdir(), 'coulomb-profile')]
  : [];
const server = spawn(process.execPath, [...profile, main, 'serve'], {
  env: { ...process.env, COULOMB_DATA_DIR: folder, COULOMB_PORT: '0', COULOMB_LOG_LEVEL: 'warn' },
  stdio: ['ignore', 'ignore', 'inherit'],
});

const readEnv = (file: string): Record<string, string> =>
  Object.fromEntries(
    readFileSync(join(folder, file), 'utf8')
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );

async function waitForServer(): Promise<Record<string, string>> {
  const give_up_at = Date.now() + START_MS;
  while (!existsSync(join(folder, 'sandbox.env'))) {
    if (Date.now() > give_up_at) throw new Error('the server did not start');
    await new Promise((done) => setTimeout(done, 50));
  }
  return readEnv('sandbox.env');
}

/** Wallets of a currency, each with operator's capital for the sends, booked as a deposit books it. */
async function makeWallets(
  place: Place,
  network: string,
  currency: 'btc' | 'usd',
  line_of_credit_id: string,
  db: pg.Client,
): Promise<string[]> {
  const { organization_id, environment_id } = place;
  const wallets: string[] = [];
  for (let index = 0; index < WALLETS; index += 1) {
    const id = randomUUID();
    wallets.push(id);
    const body = { id, environment_id, line_of_credit_id, name: `wallet ${index}`, network, limit: 0 };
    await place.load.call('POST', `/organizations/${organization_id}/wallets`, body);
  }
  const values = [organization_id, wallets, CAPITAL[currency], currency];
  await db.query('BEGIN');
  await db.query(
    `INSERT INTO transfers (organization_id, from_account, to_account, currency, amount, kind)
     SELECT $1, (SELECT id FROM accounts WHERE organization_id = $1 AND kind = 'capital' AND currency = $4),
       id, $4, $3, 'deposited' FROM unnest($2::uuid[]) AS id`,
    values,
  );
  await db.query(
    `INSERT INTO ledger_events (organization_id, wallet_id, effective_time, type, event_id, currency, amount)
     SELECT $1, id, now(), 'deposited', gen_random_uuid(), $4, $3 FROM unnest($2::uuid[]) AS id`,
    values,
  );
  await db.query(
    'UPDATE accounts SET total = $3 WHERE organization_id = $1 AND id = ANY($2) AND currency = $4',
    values,
  );
  await db.query('COMMIT');
  return wallets;
}

async function seed(place: Place, db: pg.Client): Promise<void> {
  const text = readFileSync(new URL('seed.sql', import.meta.url), 'utf8');
  const { organization_id, environment_id, line_of_credit_id, wallets } = place;
  const step = 50_000;
  for (let done = 0; done < stored; done += step) {
    const rows = Math.min(step, stored - done);
    await db.query(text, [
      organization_id,
      environment_id,
      line_of_credit_id,
      wallets,
      rows,
      'sandbox',
      done,
    ]);
    say(`stored ${done + rows} payments`);
  }
  await db.query('VACUUM ANALYZE');
  await db.query('CHECKPOINT');
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const rate = (measure: Measure): string => Math.round(measure.per_second).toString();
const cpuOf = ({ cpu_us }: Measure): string =>
  [cpu_us.server, cpu_us.database, cpu_us.client].map((value) => Math.round(value)).join(' + ');
const ms = (value: number): string => value.toFixed(1);

function table(first: [string, Measure][], second: [string, Measure][]): string {
  const after = new Map(second);
  const rows = first.map(([name, small]) => {
    const big = after.get(name);
    const end = big
      ? `${rate(big)} | ${ms(big.p50_ms)} | ${ms(big.p99_ms)} | ${(big.per_second / small.per_second).toFixed(2)}`
      : '| | |';
    return `| ${name} | ${rate(small)} | ${ms(small.p50_ms)} | ${ms(small.p99_ms)} | ${cpuOf(small)} | ${end} |`;
  });
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim();
  const [cpu] = cpus();
  return `# Benchmark

${new Date().toISOString().slice(0, 10)}, commit ${commit}, ${cpus().length} x ${cpu?.model ?? 'CPU'}, ${Math.round(totalmem() / 2 ** 30)} GiB,
Node ${process.version}, embedded PostgreSQL 18 with fsync and synchronous_commit on. Client, server and database share
the cores; ${CONNECTIONS} connections; ${count} operations per scenario (receives paid: half, lists and ledger: a fifth).
A scenario ends when its last payment has ended, not when it was accepted; latency is that of the HTTP answer
(receives paid: of the whole way).

| scenario | per second | p50 ms | p99 ms | CPU us: server + database + client | over ${stored} stored: per second | p50 ms | p99 ms | ratio |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}
`;
}

try {
  const environment = await waitForServer();
  const db = new pg.Client({ connectionString: readEnv('postgres.env')['DATABASE_URL'] });
  await db.connect();
  const postmaster = readFileSync(join(folder, 'postgres', 'postmaster.pid'), 'utf8').split('\n')[0] ?? '';
  const value = (name: string): string => environment[name] ?? '';
  const place: Place = {
    load: openLoad(value('VOLTAGE_BASE_URL'), value('VOLTAGE_API_KEY'), CONNECTIONS, () =>
      readCpu(server.pid ?? 0, postmaster),
    ),
    organization_id: value('VOLTAGE_ORGANIZATION_ID'),
    environment_id: value('VOLTAGE_ENVIRONMENT_ID'),
    line_of_credit_id: value('VOLTAGE_LINE_OF_CREDIT_ID'),
    usd_line_of_credit_id: value('VOLTAGE_USD_LINE_OF_CREDIT_ID'),
    network: value('VOLTAGE_NETWORK'),
    wallets: [],
    usd_wallets: [],
  };
  place.wallets = await makeWallets(place, place.network, 'btc', place.line_of_credit_id, db);
  place.usd_wallets = await makeWallets(place, place.network, 'usd', place.usd_line_of_credit_id, db);
  const first = await everything(place, count, say);
  let second: [string, Measure][] = [];
  if (stored > 0) {
    await seed(place, db);
    second = await everything(place, count, say);
  }
  const text = table(first, second);
  say(text);
  if (stored > 0 && count >= 10_000) writeFileSync(new URL('RESULTS.md', import.meta.url), text);
  await place.load.close();
  await db.end();
} finally {
  const gone = new Promise((done) => server.once('exit', done));
  server.kill('SIGTERM');
  await gone;
  rmSync(folder, { recursive: true, force: true });
}
