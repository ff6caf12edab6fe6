import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { bootstrap, credentialsFile } from './admin/bootstrap.ts';
import { listen, LISTEN_USAGE } from './admin/listen.ts';
import { parseCommand, usages } from './admin/commands.ts';
import { UsageError } from './admin/usage.ts';
import { ConfigError, loadConfig, type Config } from './config.ts';
import { openDatabase, type Database } from './core/db.ts';
import { AlreadyRunning, openEmbedded, startEmbedded } from './core/embedded.ts';
import { stringifyJson } from './core/json.ts';
import { createLog } from './core/log.ts';
import { migrate } from './core/migrate.ts';
import { writeSecret } from './core/secret-file.ts';
import { WrongKey } from './core/vault.ts';
import { compareRegisteredNodes, startServer } from './server.ts';

// The command line. It ends with 2 for what whoever typed can mend (usage, configuration, a key, another server), and
// with 1 for anything else and for an audit that found something.

/** Of the line that the first start makes: a hundredth of a bitcoin. */
const SANDBOX_LIMIT_MSATS = 1_000_000_000n;

const HELP = `coulomb: payments over Bitcoin and Lightning

  coulomb serve                  run the server (npm start)
  coulomb migrate                apply migrations and stop
  ${[LISTEN_USAGE, ...usages()].map((usage) => `coulomb ${usage}`).join('\n  ')}

Every command takes --json. Settings are environment variables: see the README.`;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** The first start makes a sandbox and says how to use it; later starts change none of it. */
async function firstSteps(db: Database, config: Config, url: string): Promise<void> {
  const path = join(config.data_dir, 'sandbox.env');
  if (!existsSync(path)) {
    // Somebody works here already: credentials that were removed are not made anew. The operator's organization is
    // nobody: a node that answers quickly has been registered in it by now.
    const [known] = await db.query('SELECT 1 FROM environments LIMIT 1');
    if (known) return;
    const made = await bootstrap(db, {
      organization: 'Sandbox',
      kind: 'staging',
      network: 'mutinynet',
      currency: 'btc',
      limit: SANDBOX_LIMIT_MSATS,
      wallet_name: 'Sandbox wallet',
    });
    writeSecret(path, credentialsFile(`${config.public_url ?? url}/v1`, made));
  }
  say(`\nSandbox credentials: ${path}. Make an invoice, then pay it from outside:\n`);
  const base =
    '"$VOLTAGE_BASE_URL/organizations/$VOLTAGE_ORGANIZATION_ID/environments/$VOLTAGE_ENVIRONMENT_ID"';
  const post = `curl -sS -H "x-api-key: $VOLTAGE_API_KEY" -H 'content-type: application/json'`;
  say(
    `  source '${path}'; ID=$(node -p 'crypto.randomUUID()'); ${post} ${base}/payments -d '{"id":"'$ID'","wallet_id":"'$VOLTAGE_WALLET_ID'","payment_kind":"bolt11","amount":{"currency":"btc","amount":150000},"description":"First payment"}'; sleep 1; curl -sS -H "x-api-key: $VOLTAGE_API_KEY" ${base}/payments/$ID`,
  );
  say(
    `\n  ${post} ${base}/sandbox/payments -d '{"payment_request":"'$(curl -sS -H "x-api-key: $VOLTAGE_API_KEY" ${base}/payments/$ID | sed 's/.*"payment_request":"\\([^"]*\\)".*/\\1/')'"}'\n`,
  );
  say(`API reference: ${url}/docs`);
}

async function serve(config: Config): Promise<void> {
  const log = createLog(config.log_level);
  const embedded = config.database_url === null ? await startEmbedded(config.data_dir, log) : null;
  const url = config.database_url ?? embedded?.url ?? '';
  const server = await startServer(config, url, log).catch(async (error: unknown) => {
    await embedded?.stop();
    throw error;
  });
  say(`Coulomb listens on ${server.url}`);
  if (embedded) say(`PostgreSQL data in ${embedded.folder}`);
  await firstSteps(server.db, config, server.url);
  let stopping = false;
  const stop = (signal: string): void => {
    // Asked twice: at once. What was committed goes on at the next start.
    if (stopping) process.exit(1);
    stopping = true;
    log.info({ signal }, 'stopping');
    // PostgreSQL last: the server still writes how its work ended.
    const stopped = server.stop().then(() => embedded?.stop());
    void stopped.then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ err: error }, 'not stopped cleanly');
        process.exit(1);
      },
    );
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

/** Runs a command on the configured database, embedded or not, running or not. */
async function withDatabase<T>(config: Config, work: (db: Database) => Promise<T>): Promise<T> {
  const log = createLog('error');
  const { url, embedded } = config.database_url
    ? { url: config.database_url, embedded: null }
    : await openEmbedded(config.data_dir, log);
  const db = openDatabase({
    url,
    ...config.database,
    // An operator's command may look at everything; no request waits for it.
    statement_timeout_ms: 600_000,
    idle_in_transaction_timeout_ms: 600_000,
  });
  try {
    await migrate(db);
    return await work(db);
  } finally {
    await db.close();
    await embedded?.stop();
  }
}

function print(value: unknown, json: boolean): void {
  if (json) return say(stringifyJson(value));
  const rows = Array.isArray(value) ? value : [value];
  if (rows.length === 0) return say('nothing');
  for (const row of rows as Record<string, unknown>[]) {
    const cells = Object.entries(row).map(
      ([name, cell]) => `${name}=${typeof cell === 'string' ? cell : stringifyJson(cell)}`,
    );
    say(cells.join('  '));
  }
}

async function main(argv: readonly string[]): Promise<void> {
  const [command] = argv;
  if (command === undefined || command === '--help' || command === 'help') return say(HELP);
  const config = loadConfig(process.env);
  if (command === 'serve') return serve(config);
  // A client of the API, perhaps on another machine than the database.
  if (command === 'listen')
    return listen(argv.slice(1), join(config.data_dir, 'sandbox.env'), config.api_key, say);
  if (command === 'migrate') return withDatabase(config, () => Promise.resolve(say('migrations applied')));
  const parsed = parseCommand(argv);
  // Where a server on this configuration would be: a command need not find one running.
  const base_url = `${config.public_url ?? `http://${config.host}:${config.port}`}/v1`;
  const result = await withDatabase(config, (db) =>
    parsed.run({
      db,
      base_url,
      nodes: config.nodes,
      compareNodes: () => compareRegisteredNodes(config, db, createLog('error')),
    }),
  );
  print(result.value, parsed.json);
  if (result.failed) process.exitCode = 1;
}

main(process.argv.slice(2)).catch((error: unknown) => {
  const expected =
    error instanceof UsageError ||
    error instanceof ConfigError ||
    error instanceof AlreadyRunning ||
    error instanceof WrongKey;
  process.stderr.write(`coulomb: ${expected ? error.message : ((error as Error).stack ?? String(error))}\n`);
  process.exit(expected ? 2 : 1);
});
