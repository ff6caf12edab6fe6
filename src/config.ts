import { resolve } from 'node:path';
import {
  given,
  list,
  readTree,
  url,
  variable,
  variablesOf,
  whole,
  type Environment,
} from './core/environment.ts';
import { parseKey } from './core/vault.ts';
import { readNodesFile } from './lightning/nodes-file.ts';
import { readSanctionsFile } from './lightning/sanctions.ts';
import { SOURCES, type Source } from './quotes/sources.ts';
import { parseSandboxRate } from './quotes/walk.ts';

// Every setting with its bounds, and every bound that is none. The server, the commands and the README's table read
// them from here (`npm run docs`); no other file reads a setting.

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const CONFIRMATIONS = [1, 100] as const;
const CONFIRMED = 'confirmations at which money on that chain counts';
/** How often a source is asked before what it said is too old: public interfaces allow a few requests a second. */
const ASKED_PER_AGE = 6;
const SANDBOX_RATE = '6500000e0';

const rateSources = variable(
  'COULOMB_RATE_SOURCES',
  'all four',
  `any of ${Object.keys(SOURCES).join(', ')}, each also as \`name=https://base-url\`; \`none\` asks nobody`,
  (value, faults): Source[] => {
    if (value === null) return Object.entries(SOURCES).map(([name, { base_url }]) => ({ name, base_url }));
    if (value === 'none') return [];
    return list(value).map((entry) => {
      const [name = '', base_url] = entry.split(/=(.*)/s);
      const known = Object.hasOwn(SOURCES, name) ? SOURCES[name] : undefined;
      if (!known)
        faults.push(`COULOMB_RATE_SOURCES: no source ${name}; there are ${Object.keys(SOURCES).join(', ')}`);
      if (base_url !== undefined && !URL.canParse(base_url))
        faults.push(`COULOMB_RATE_SOURCES: ${name} has no URL`);
      return { name, base_url: base_url ?? known?.base_url ?? '' };
    });
  },
);

/** Every variable, declared once, beside the bounds that nobody has to set. Its comments say why a bound is what it is. */
const TREE = {
  host: variable(
    'COULOMB_HOST',
    '`127.0.0.1`',
    'the address on which it listens',
    (value) => value ?? '127.0.0.1',
  ),
  port: whole('COULOMB_PORT', 3300, [0, 65_535], 'its port; 0 takes one that is free'),
  database_url: url(
    'DATABASE_URL',
    'embedded',
    ['postgres:', 'postgresql:'],
    'PostgreSQL 15 or newer; nothing is embedded then',
  ),
  data_dir: variable('COULOMB_DATA_DIR', '`.coulomb`', 'credentials and the embedded database', (value) =>
    resolve(value ?? '.coulomb'),
  ),
  database: {
    /** Lanes, reads and lists of one process; PostgreSQL's default allows 100 in all. */
    max_connections: whole('COULOMB_DB_CONNECTIONS', 20, [4, 500], 'connections per server process'),
    /** No statement of a request takes longer, or something is wrong. */
    statement_timeout_ms: 10_000,
    /** With it, the longest that a transaction of ours can keep the readers of events waiting (docs/decisions/0020). */
    idle_in_transaction_timeout_ms: 10_000,
    /** A request answers 503 rather than wait longer for a connection. */
    connect_timeout_ms: 3000,
  },
  public_url: url(
    'COULOMB_PUBLIC_URL',
    'none',
    ['http:', 'https:'],
    'where clients reach it, for links and documents; the Host header is never used',
  ),
  trusted_proxies: variable(
    'COULOMB_TRUSTED_PROXIES',
    'none',
    'addresses or CIDR ranges whose `x-forwarded-for` counts',
    list,
  ),
  cors_origins: variable(
    'COULOMB_CORS_ORIGINS',
    'any',
    'browser origins; the key travels in a header, never in a cookie',
    list,
  ),
  metrics_token: variable(
    'COULOMB_METRICS_TOKEN',
    'none',
    'bearer for `/metrics` from elsewhere; this machine needs none',
    (value) => value,
  ),
  log_level: variable('COULOMB_LOG_LEVEL', '`info`', `one of ${LEVELS.join(', ')}`, (value, faults) => {
    const level = value ?? 'info';
    if (!LEVELS.includes(level)) faults.push(`COULOMB_LOG_LEVEL must be one of ${LEVELS.join(', ')}`);
    return level;
  }),
  secret_key: variable(
    'COULOMB_SECRET_KEY',
    'a file',
    'seals webhook secrets: 32 bytes in Base64 (`openssl rand -base64 32`); embedded, one is made in the data folder; else without it no webhook can be made',
    (value, faults) => {
      const key = value === null ? null : parseKey(value);
      if (value !== null && key === null)
        faults.push(
          'COULOMB_SECRET_KEY must be 32 bytes in Base64, or 64 hex digits (openssl rand -base64 32)',
        );
      return key;
    },
  ),
  webhooks: {
    allow_private: variable(
      'COULOMB_WEBHOOK_ALLOW_PRIVATE',
      '`true` where PostgreSQL is embedded, else `false`',
      'staging webhooks over http, to private addresses, on any port',
      (value, faults, environment) => {
        // A server without a database of its own is somebody's trial on a laptop, with the receiver beside it. Anywhere
        // else, private addresses are what a webhook must not reach (threat 13).
        if (value === null) return given(environment, 'DATABASE_URL') === null;
        if (value !== 'true' && value !== 'false')
          faults.push('COULOMB_WEBHOOK_ALLOW_PRIVATE must be true or false');
        return value === 'true';
      },
    ),
    stop_after_hours: whole(
      'COULOMB_WEBHOOK_STOP_AFTER_HOURS',
      72,
      [1, 8760],
      'only failures for so long stop a webhook',
    ),
    kept_days: whole(
      'COULOMB_EVENTS_KEPT_DAYS',
      30,
      [2, 3650],
      'events and ended deliveries are kept so long',
    ),
    /** Registrations of one environment, without deleted ones: each event may become a delivery to every one. */
    max_per_environment: 100,
    /** Each holds a socket and some kilobytes. */
    max_streams: whole(
      'COULOMB_MAX_STREAMS',
      5000,
      [1, 100_000],
      'event streams open at once in one process',
    ),
    /** One environment that leaks connections does not take everybody's. */
    max_streams_per_environment: whole(
      'COULOMB_MAX_STREAMS_PER_ENVIRONMENT',
      2500,
      [1, 100_000],
      'of them, those of one environment',
    ),
  },
  api_key: variable(
    'VOLTAGE_API_KEY',
    "the sandbox's",
    'what `coulomb listen` reads events with; no server needs it',
    (value) => value,
  ),
  nodes: variable('COULOMB_NODES_FILE', 'none', 'the real nodes, see above', (value, faults) =>
    value === null ? [] : readNodesFile(value, faults),
  ),
  /** Without a list no wallet can have the policy. */
  sanctions: variable(
    'COULOMB_SANCTIONS_FILE',
    'none',
    'addresses that wallets with `ofac_compliant` do not pay',
    (value, faults) => (value === null ? null : readSanctionsFile(value, faults)),
  ),
  /** Fewer only where a chain that is reorganized costs nobody money. */
  confirmations: {
    mainnet: whole('COULOMB_CONFIRMATIONS_MAINNET', 3, CONFIRMATIONS, CONFIRMED),
    testnet: whole('COULOMB_CONFIRMATIONS_TESTNET', 1, CONFIRMATIONS, CONFIRMED),
    mutinynet: whole('COULOMB_CONFIRMATIONS_MUTINYNET', 1, CONFIRMATIONS, CONFIRMED),
  },
  sandbox_block_seconds: whole(
    'COULOMB_SANDBOX_BLOCK_SECONDS',
    10,
    [0, 3600],
    'background blocks; 0: only by hand',
  ),
  quote_seconds: whole('COULOMB_QUOTE_SECONDS', 300, [1, 86_400], 'how long a quote locks its rate'),
  rates: {
    sandbox_rate: variable(
      'COULOMB_SANDBOX_RATE',
      `\`${SANDBOX_RATE}\``,
      "what the sandbox's price walks around, cents per bitcoin",
      (value, faults) => {
        const rate = parseSandboxRate(value ?? SANDBOX_RATE);
        if (!rate) faults.push('COULOMB_SANDBOX_RATE must be <coefficient>e<scale>, cents per bitcoin');
        // Of no matter: with a fault there is no Config.
        return rate ?? { coefficient: 1n, scale: 0 };
      },
    ),
    /** Asked only where there is a real node. */
    sources: rateSources,
    quorum: variable(
      'COULOMB_RATE_QUORUM',
      '2',
      'how many sources must agree; 1 where only one is named',
      (_value, faults, environment) => {
        // What is wrong with the sources is told where they are read themselves.
        const most = Math.max(1, rateSources.read(environment, []).length);
        return whole('COULOMB_RATE_QUORUM', Math.min(2, most), [1, most], '').read(environment, faults);
      },
    ),
    /** What a source said longer ago says nothing of now. */
    max_age_seconds: whole(
      'COULOMB_RATE_MAX_AGE_SECONDS',
      60,
      [6, 3600],
      'a source whose last answer is older does not count; it is asked six times in it',
    ),
    timeout_ms: 3000,
    /** An answer is some hundred bytes. */
    body_bytes: 65_536,
    /** Exchanges differ by a few tenths of a percent; who is two percent off is wrong. */
    max_deviation_bps: 200,
  },
  /** The contract's bound of a body. */
  body_limit_bytes: 1_048_576,
  /** Commands per transaction: beyond a few hundred, larger batches only add latency. */
  max_batch: 256,
  /** Commands that may wait; at 10,000/s this is two seconds of work, after that a 503 is kinder. */
  max_queue: 20_000,
};

/** What the README's table shows. */
export const VARIABLES = variablesOf(TREE);

/** Thrown with every fault of the environment at once. */
export class ConfigError extends Error {}

/** Everything that can be set, read once at start. */
export type Config = ReturnType<typeof loadConfig>;

/** Reads the environment; throws `ConfigError` naming every variable at fault. */
export function loadConfig(environment: Environment) {
  const faults: string[] = [];
  const config = readTree(TREE, environment, faults);
  if (faults.length > 0) throw new ConfigError(`configuration is not usable:\n  ${faults.join('\n  ')}`);
  const max_age_ms = config.rates.max_age_seconds * 1000;
  const rates = { ...config.rates, max_age_ms, poll_ms: max_age_ms / ASKED_PER_AGE };
  return Object.freeze({ ...config, rates });
}
