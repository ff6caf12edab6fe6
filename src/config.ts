import { resolve } from 'node:path';
import type { Rate } from './core/rate.ts';
import { parseKey } from './core/vault.ts';
import { readNodesFile, type NodeEntry } from './lightning/nodes-file.ts';
import { SOURCES } from './quotes/sources.ts';
import { parseSandboxRate } from './quotes/walk.ts';
import { readSanctionsFile, type SanctionsList } from './lightning/sanctions.ts';

/** Everything that can be set, read once at start. Nothing else reads the environment. */
export interface Config {
  host: string;
  port: number;
  /** null: the embedded PostgreSQL under `data_dir`. */
  database_url: string | null;
  data_dir: string;
  /** Where clients reach this server: links and documents use it, never the Host header. */
  public_url: string | null;
  log_level: string;
  metrics_token: string | null;
  /** What `coulomb listen` reads events with; null: the key of the sandbox. */
  api_key: string | null;
  trusted_proxies: readonly string[];
  cors_origins: readonly string[];
  sandbox_block_seconds: number;
  /** Seals what is stored secretly; null: the one in the data folder, made at the first start. */
  secret_key: Buffer | null;
  webhooks: {
    /** Staging environments may have webhooks over http, to private addresses, on any port. */
    allow_private: boolean;
    /** A registration of which only failures come for this long is stopped. */
    stop_after_hours: number;
    /** Events and ended deliveries are kept this long. */
    kept_days: number;
    /** Registrations of one environment, without deleted ones: each event may become a delivery to every one. */
    max_per_environment: number;
    /** Event streams that are open at once in one process: each holds a socket and some kilobytes. */
    max_streams: number;
    /** Of them, those of one environment: one that leaks connections does not take everybody's. */
    max_streams_per_environment: number;
  };
  /** Real nodes, beside the sandbox. */
  nodes: readonly NodeEntry[];
  /** Addresses that wallets with `ofac_compliant` do not pay; null: no list, so that no wallet can have the policy. */
  sanctions: SanctionsList | null;
  confirmations: Readonly<Record<string, number>>;
  /** How long a quote holds its rate. */
  quote_seconds: number;
  rates: {
    /** Public sources of the price, by name and address. Asked only where there is a real node. */
    sources: readonly { name: string; base_url: string }[];
    /** Sources that must agree. */
    quorum: number;
    /** Where the sandbox's own rate walks, cents per bitcoin. */
    sandbox_rate: Rate;
    poll_ms: number;
    timeout_ms: number;
    /** An answer is some hundred bytes. */
    body_bytes: number;
    /** What a source said longer ago says nothing of now. */
    max_age_ms: number;
    /** Exchanges differ by a few tenths of a percent; who is two percent off is wrong. */
    max_deviation_bps: number;
  };
  /** The contract's bound of a body. */
  body_limit_bytes: number;
  /** Commands per transaction: beyond a few hundred, larger batches only add latency. */
  max_batch: number;
  /** Commands that may wait; at 10,000/s this is two seconds of work, after that a 503 is kinder. */
  max_queue: number;
  database: {
    /** Lanes, reads and lists of one process; PostgreSQL's default allows 100 in all. */
    max_connections: number;
    /** No statement of a request takes longer, or something is wrong. */
    statement_timeout_ms: number;
    idle_in_transaction_timeout_ms: number;
    /** A request answers 503 rather than wait longer for a connection. */
    connect_timeout_ms: number;
  };
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const MAX_CONFIRMATIONS = 100;
/** How often a source is asked before what it said is too old: public interfaces allow a few requests a second. */
const ASKED_PER_AGE = 6;

/** Thrown with every fault of the environment at once. */
export class ConfigError extends Error {}

type Environment = Record<string, string | undefined>;

/** Reads the environment; throws `ConfigError` naming every variable at fault. */
export function loadConfig(environment: Environment): Config {
  const faults: string[] = [];
  const text = (name: string): string | null => {
    const value = environment[name]?.trim();
    return value === undefined || value === '' ? null : value;
  };
  const number = (name: string, fallback: number, least: number, most: number): number => {
    const given = text(name);
    if (given === null) return fallback;
    const value = Number(given);
    if (/^\d+$/.test(given) && value >= least && value <= most) return value;
    faults.push(`${name} must be a whole number from ${least} to ${most}, not "${given}"`);
    return fallback;
  };
  const list = (name: string): string[] =>
    (text(name) ?? '')
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '');
  const url = (name: string, protocols: string[]): string | null => {
    const given = text(name);
    if (given === null) return null;
    // The value may hold a password: it is not repeated.
    if (!URL.canParse(given) || !protocols.includes(new URL(given).protocol)) {
      faults.push(`${name} must be a URL (${protocols.join(' or ')})`);
    }
    return given.replace(/\/$/, '');
  };
  const secret = (name: string): Buffer | null => {
    const given = text(name);
    const key = given === null ? null : parseKey(given);
    if (given !== null && key === null)
      faults.push(`${name} must be 32 bytes in Base64, or 64 hex digits (openssl rand -base64 32)`);
    return key;
  };
  const yes = (name: string, fallback: boolean): boolean => {
    const given = text(name);
    if (given !== null && given !== 'true' && given !== 'false') faults.push(`${name} must be true or false`);
    return given === null ? fallback : given === 'true';
  };
  const asked = list('COULOMB_RATE_SOURCES');
  const sources = asked.map((entry) => {
    const [name = '', base_url] = entry.split(/=(.*)/s);
    const known = Object.hasOwn(SOURCES, name) ? SOURCES[name] : undefined;
    if (!known && asked.join() !== 'none')
      faults.push(`COULOMB_RATE_SOURCES: no source ${name}; there are ${Object.keys(SOURCES).join(', ')}`);
    if (base_url !== undefined && !URL.canParse(base_url))
      faults.push(`COULOMB_RATE_SOURCES: ${name} has no URL`);
    return { name, base_url: base_url ?? known?.base_url ?? '' };
  });
  const all = Object.entries(SOURCES).map(([name, { base_url }]) => ({ name, base_url }));
  const rate_sources = asked.join() === 'none' ? [] : sources.length > 0 ? sources : all;
  const most_sources = Math.max(1, rate_sources.length);
  const max_age_ms = number('COULOMB_RATE_MAX_AGE_SECONDS', 60, 6, 3600) * 1000;
  const sandbox_rate = parseSandboxRate(text('COULOMB_SANDBOX_RATE') ?? '6500000e0');
  if (!sandbox_rate) faults.push('COULOMB_SANDBOX_RATE must be <coefficient>e<scale>, cents per bitcoin');
  const log_level = text('COULOMB_LOG_LEVEL') ?? 'info';
  if (!LEVELS.includes(log_level)) faults.push(`COULOMB_LOG_LEVEL must be one of ${LEVELS.join(', ')}`);
  const nodes_file = text('COULOMB_NODES_FILE');
  const sanctions_file = text('COULOMB_SANCTIONS_FILE');
  const config: Config = {
    host: text('COULOMB_HOST') ?? '127.0.0.1',
    port: number('COULOMB_PORT', 3300, 0, 65_535),
    database_url: url('DATABASE_URL', ['postgres:', 'postgresql:']),
    data_dir: resolve(text('COULOMB_DATA_DIR') ?? '.coulomb'),
    public_url: url('COULOMB_PUBLIC_URL', ['http:', 'https:']),
    log_level,
    metrics_token: text('COULOMB_METRICS_TOKEN'),
    api_key: text('VOLTAGE_API_KEY'),
    trusted_proxies: list('COULOMB_TRUSTED_PROXIES'),
    cors_origins: list('COULOMB_CORS_ORIGINS'),
    sandbox_block_seconds: number('COULOMB_SANDBOX_BLOCK_SECONDS', 10, 0, 3600),
    secret_key: secret('COULOMB_SECRET_KEY'),
    webhooks: {
      allow_private: yes('COULOMB_WEBHOOK_ALLOW_PRIVATE', text('DATABASE_URL') === null),
      stop_after_hours: number('COULOMB_WEBHOOK_STOP_AFTER_HOURS', 72, 1, 8760),
      kept_days: number('COULOMB_EVENTS_KEPT_DAYS', 30, 2, 3650),
      max_per_environment: 100,
      max_streams: number('COULOMB_MAX_STREAMS', 5000, 1, 100_000),
      max_streams_per_environment: number('COULOMB_MAX_STREAMS_PER_ENVIRONMENT', 2500, 1, 100_000),
    },
    nodes: nodes_file === null ? [] : readNodesFile(nodes_file, faults),
    sanctions: sanctions_file === null ? null : readSanctionsFile(sanctions_file, faults),
    confirmations: {
      mainnet: number('COULOMB_CONFIRMATIONS_MAINNET', 3, 1, MAX_CONFIRMATIONS),
      testnet: number('COULOMB_CONFIRMATIONS_TESTNET', 1, 1, MAX_CONFIRMATIONS),
      mutinynet: number('COULOMB_CONFIRMATIONS_MUTINYNET', 1, 1, MAX_CONFIRMATIONS),
    },
    quote_seconds: number('COULOMB_QUOTE_SECONDS', 300, 1, 86_400),
    rates: {
      sources: rate_sources,
      quorum: number('COULOMB_RATE_QUORUM', Math.min(2, most_sources), 1, most_sources),
      sandbox_rate: sandbox_rate ?? { coefficient: 1n, scale: 0 },
      poll_ms: max_age_ms / ASKED_PER_AGE,
      timeout_ms: 3000,
      body_bytes: 65_536,
      max_age_ms,
      max_deviation_bps: 200,
    },
    body_limit_bytes: 1_048_576,
    max_batch: 256,
    max_queue: 20_000,
    database: {
      max_connections: number('COULOMB_DB_CONNECTIONS', 20, 4, 500),
      statement_timeout_ms: 10_000,
      idle_in_transaction_timeout_ms: 10_000,
      connect_timeout_ms: 3000,
    },
  };
  if (faults.length > 0) throw new ConfigError(`configuration is not usable:\n  ${faults.join('\n  ')}`);
  return Object.freeze(config);
}
