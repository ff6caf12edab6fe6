import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ConfigError, loadConfig } from '../src/config.ts';
import { operatorOrganization } from '../src/nodes/store.ts';
import { createClient } from './client.ts';
import { createTestDatabase } from './database.ts';
import { INHERITED } from './fixtures.ts';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const START_MS = 60_000;

interface Started {
  url: string;
  output(): string;
  child: ChildProcess;
  ended: Promise<number | null>;
}

function environmentOf(data_dir: string): NodeJS.ProcessEnv {
  return {
    ...INHERITED,
    COULOMB_DATA_DIR: data_dir,
    COULOMB_PORT: '0',
    COULOMB_LOG_LEVEL: 'error',
  };
}

async function start(data_dir: string, more: NodeJS.ProcessEnv = {}): Promise<Started> {
  const child = spawn(process.execPath, [MAIN, 'serve'], {
    env: { ...environmentOf(data_dir), ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  let printed = '';
  child.stdout.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (printed += chunk.toString()));
  const ended = new Promise<number | null>((done) => child.once('exit', done));
  const give_up_at = Date.now() + START_MS;
  while (!printed.includes('API reference') && child.exitCode === null && Date.now() < give_up_at) {
    await new Promise((done) => setTimeout(done, 20));
  }
  return { url: /Coulomb listens on (\S+)/.exec(printed)?.[1] ?? '', output: () => printed, child, ended };
}

const command = (data_dir: string, ...args: string[]) =>
  spawnSync(process.execPath, [MAIN, ...args], {
    env: environmentOf(data_dir),
    encoding: 'utf8',
    timeout: START_MS,
  });

const readEnv = (path: string): Record<string, string> =>
  Object.fromEntries(
    readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );

const postmasterPid = (folder: string): number =>
  Number(readFileSync(join(folder, 'postmaster.pid'), 'utf8').split('\n')[0]);
const folderOf = (started: Started): string => /PostgreSQL data in (\S+)/.exec(started.output())?.[1] ?? '';

test('every fault of the configuration is named at once', () => {
  assert.throws(
    () => loadConfig({ COULOMB_PORT: 'x', COULOMB_LOG_LEVEL: 'loud', DATABASE_URL: 'nowhere' }),
    (error) =>
      error instanceof ConfigError &&
      ['COULOMB_PORT', 'COULOMB_LOG_LEVEL', 'DATABASE_URL'].every((name) => error.message.includes(name)),
  );
});

describe('the embedded database', () => {
  let home: string;
  let data_dir: string;
  let running: Started;
  before(() => {
    home = mkdtempSync(join(tmpdir(), 'coulomb-start-'));
    chmodSync(home, 0o711);
    data_dir = join(home, 'data');
  });
  after(async () => {
    if (running.child.exitCode === null) {
      running.child.kill('SIGTERM');
      await running.ended;
    }
    rmSync(home, { recursive: true, force: true });
  });

  test('the first start makes a sandbox whose printed lines work, in files that only the owner reads', async () => {
    running = await start(data_dir);
    assert.notEqual(running.url, '', running.output());
    for (const file of ['sandbox.env', 'postgres.env'])
      assert.equal(statSync(join(data_dir, file)).mode & 0o777, 0o600);
    const lines = running
      .output()
      .split('\n')
      .filter((line) => /^ {2}(source|curl)/.test(line));
    assert.equal(lines.length, 2);
    const script = lines.join('\n').replaceAll(/VOLTAGE_BASE_URL/g, 'BASE');
    const ran = spawnSync('bash', ['-c', script], {
      encoding: 'utf8',
      env: {
        PATH: `${join(process.execPath, '..')}:${process.env['PATH'] ?? ''}`,
        BASE: `${running.url}/v1`,
      },
    });
    assert.match(ran.stdout, /"status":"settled"/, ran.stdout + ran.stderr);
  });

  test('a second start on the same data is refused and names the way; with the URL it runs beside', async () => {
    const second = await start(data_dir);
    assert.equal(await second.ended, 2);
    assert.match(second.output(), /postgres\.env/);
    const { DATABASE_URL } = readEnv(join(data_dir, 'postgres.env'));
    const beside = await start(data_dir, { DATABASE_URL });
    assert.notEqual(beside.url, '', beside.output());
    beside.child.kill('SIGTERM');
    assert.equal(await beside.ended, 0);
  });

  test('operator commands work beside a running server and leave an audit row', () => {
    const {
      VOLTAGE_WALLET_ID = '',
      VOLTAGE_ORGANIZATION_ID = '',
      VOLTAGE_ENVIRONMENT_ID = '',
    } = readEnv(join(data_dir, 'sandbox.env'));
    const deposited = command(
      data_dir,
      'deposit',
      '--wallet',
      VOLTAGE_WALLET_ID,
      '--amount',
      '5000',
      '--json',
    );
    assert.deepEqual(JSON.parse(deposited.stdout), { total: 155_000 }, deposited.stderr);
    const scope = ['--organization', VOLTAGE_ORGANIZATION_ID, '--environment', VOLTAGE_ENVIRONMENT_ID];
    const made = command(data_dir, 'keys', 'create', ...scope, '--permissions', 'READ', '--json');
    assert.match((JSON.parse(made.stdout) as { api_key: string }).api_key, /^vltg_/);
    assert.equal((JSON.parse(command(data_dir, 'keys', 'list', '--json').stdout) as unknown[]).length, 2);
    assert.equal(command(data_dir, 'attention', '--json').stdout.trim(), '[]');
    const out = join(data_dir, 'another.env');
    const boot = [
      'bootstrap',
      '--organization',
      'A',
      '--kind',
      'staging',
      '--network',
      'mutinynet',
      '--currency',
      'btc',
    ];
    assert.equal(command(data_dir, ...boot, '--out', out).status, 0);
    assert.match(readEnv(out)['VOLTAGE_API_KEY'] ?? '', /^vltg_/);
    const audit = command(data_dir, 'audit', '--json');
    assert.equal(audit.status, 0, audit.stdout);
    assert.equal(command(data_dir, 'keys', 'create', '--colour', 'red').status, 2);
    assert.equal(
      command(data_dir, 'withdraw', '--wallet', VOLTAGE_WALLET_ID, '--amount', '999999999').status,
      1,
    );
  });

  test('a server killed -9 leaves its database to the next start, which adopts it and keeps all', async () => {
    const before_it = readFileSync(join(data_dir, 'sandbox.env'), 'utf8');
    running.child.kill('SIGKILL');
    await running.ended;
    running = await start(data_dir);
    assert.notEqual(running.url, '', running.output());
    assert.equal(
      readFileSync(join(data_dir, 'sandbox.env'), 'utf8'),
      before_it,
      'later starts change nothing',
    );
  });

  test('the whole group killed -9, PostgreSQL included, starts again at once', async () => {
    process.kill(postmasterPid(folderOf(running)), 'SIGKILL');
    running.child.kill('SIGKILL');
    await running.ended;
    running = await start(data_dir);
    assert.notEqual(running.url, '', running.output());
    const {
      VOLTAGE_API_KEY = '',
      VOLTAGE_ORGANIZATION_ID = '',
      VOLTAGE_WALLET_ID = '',
    } = readEnv(join(data_dir, 'sandbox.env'));
    const path = `/organizations/${VOLTAGE_ORGANIZATION_ID}/wallets/${VOLTAGE_WALLET_ID}`;
    const wallet = await createClient(`${running.url}/v1`, VOLTAGE_API_KEY).request('GET', path);
    const [balance] = (wallet.body as { balances: { total: { amount: number } }[] }).balances;
    assert.equal(balance?.total.amount, 155_000);
  });

  test('it stops with the server, and commands then start it for themselves', async () => {
    const folder = folderOf(running);
    running.child.kill('SIGTERM');
    assert.equal(await running.ended, 0);
    assert.ok(!existsSync(join(folder, 'postmaster.pid')));
    assert.equal(command(data_dir, 'audit').status, 0);
    assert.ok(!existsSync(join(folder, 'postmaster.pid')));
  });
});

test('the first start makes its sandbox where a real node has been registered before', async () => {
  const place = await createTestDatabase();
  const data_dir = mkdtempSync(join(tmpdir(), 'coulomb-first-'));
  await operatorOrganization(place.db);
  const running = await start(data_dir, { DATABASE_URL: place.url });
  try {
    assert.match(running.output(), /API reference/);
    assert.ok(existsSync(join(data_dir, 'sandbox.env')));
  } finally {
    running.child.kill('SIGTERM');
    await running.ended;
    rmSync(data_dir, { recursive: true, force: true });
    await place.drop();
  }
});

test('a clone in a folder that the database user cannot enter keeps its data where it can, and says so', async (context) => {
  if (process.getuid?.() !== 0) return context.diagnostic('not root: PostgreSQL runs as this very user');
  const closed = mkdtempSync(join(tmpdir(), 'coulomb-closed-'));
  chmodSync(closed, 0o700);
  const running = await start(join(closed, 'data'));
  const folder = folderOf(running);
  try {
    assert.notEqual(running.url, '', running.output());
    assert.ok(folder !== '' && !folder.startsWith(closed), folder);
  } finally {
    running.child.kill('SIGTERM');
    await running.ended;
    rmSync(closed, { recursive: true, force: true });
    if (folder !== '') rmSync(join(folder, '..'), { recursive: true, force: true });
  }
});
