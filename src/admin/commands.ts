import { parseArgs, type ParseArgsConfig } from 'node:util';
import type { Database } from '../core/db.ts';
import { writeSecret } from '../core/embedded.ts';
import type { LineRates } from '../credit/store.ts';
import { runAudit } from '../ledger/audit.ts';
import { positions } from '../ledger/rollup.ts';
import { bootstrap, credentialsFile, type ServingNode } from './bootstrap.ts';
import { createKey, listKeys, revokeKey } from './keys.ts';
import { addLine, moveFunds, openAttention, resolveByOperator, setFeatures, updateLine } from './operator.ts';

/** Thrown for a command line that cannot be understood. */
export class UsageError extends Error {}

/** What a command answers: printed as it is, or as JSON. `failed` makes the exit code 1. */
export interface Result {
  value: unknown;
  failed?: boolean;
}

/** Where a command runs. */
export interface Place {
  db: Database;
  base_url: string;
  /** The nodes that are registered here. */
  nodes: readonly ServingNode[];
  /** Asks every registered node for its worth and holds it against the ledger. */
  compareNodes(): Promise<Record<string, unknown>[]>;
}

interface Context extends Place {
  values: Record<string, string | boolean | undefined>;
  positionals: string[];
}

interface Command {
  usage: string;
  options: NonNullable<ParseArgsConfig['options']>;
  run(context: Context): Promise<Result>;
}

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;

function required({ values }: Context, name: string): string {
  const value = values[name];
  if (typeof value !== 'string' || value === '') throw new UsageError(`--${name} is required`);
  return value;
}

const optional = ({ values }: Context, name: string): string | null =>
  typeof values[name] === 'string' ? values[name] : null;

function amount(context: Context, name: string, fallback?: bigint): bigint {
  const given = optional(context, name);
  if (given === null && fallback !== undefined) return fallback;
  if (given === null || !/^\d{1,19}$/.test(given))
    throw new UsageError(`--${name} must be a whole number of base units`);
  return BigInt(given);
}

const RATES = { 'send-bps': text, 'receive-bps': text, 'spread-bps': text };
const RATES_USAGE = '[--send-bps N] [--receive-bps N] [--spread-bps N]';
const MAX_FEE_BPS = 10_000;
const MAX_SPREAD_BPS = 5000;

/** The rates that a command names, in basis points. */
function rates(context: Context): Partial<LineRates> {
  const read = (name: keyof typeof RATES, most: number): number | undefined => {
    const given = optional(context, name);
    if (given === null) return undefined;
    if (!/^\d{1,5}$/.test(given) || Number(given) > most)
      throw new UsageError(`--${name} must be a whole number of basis points from 0 to ${most}`);
    return Number(given);
  };
  const [send_bps, receive_bps] = [read('send-bps', MAX_FEE_BPS), read('receive-bps', MAX_FEE_BPS)];
  const spread_bps = read('spread-bps', MAX_SPREAD_BPS);
  return {
    ...(send_bps === undefined ? {} : { send_bps }),
    ...(receive_bps === undefined ? {} : { receive_bps }),
    ...(spread_bps === undefined ? {} : { spread_bps }),
  };
}

const list = (value: string | null): string[] | null => value?.split(',').map((part) => part.trim()) ?? null;

const COMMANDS: Record<string, Command> = {
  bootstrap: {
    usage:
      'bootstrap --organization NAME --kind staging|production --network N --currency btc|usd [--limit N] [--node ID] --out FILE',
    options: {
      organization: text,
      kind: text,
      network: text,
      currency: text,
      limit: text,
      node: text,
      out: text,
    },
    async run(context) {
      const kind = required(context, 'kind');
      if (kind !== 'staging' && kind !== 'production')
        throw new UsageError('--kind must be staging or production');
      const currency = required(context, 'currency');
      if (currency !== 'btc' && currency !== 'usd') throw new UsageError('--currency must be btc or usd');
      const out = required(context, 'out');
      const node = optional(context, 'node');
      const request = {
        organization: required(context, 'organization'),
        kind,
        network: required(context, 'network'),
        currency,
        limit: amount(context, 'limit', 0n),
        wallet_name: 'default',
        ...(node === null ? {} : { node }),
      } as const;
      const made = await bootstrap(context.db, request, context.nodes);
      writeSecret(out, credentialsFile(context.base_url, made));
      const { api_key: _secret, ...shown } = made;
      return { value: { ...shown, written_to: out } };
    },
  },
  'keys create': {
    usage:
      'keys create --organization ID --environment ID [--name N] [--permissions READ,WRITE,RECEIVE,BILLING] [--expires-at T] [--valid-ips A,B/24]',
    options: {
      organization: text,
      environment: text,
      name: text,
      permissions: text,
      'expires-at': text,
      'valid-ips': text,
    },
    run: async (context) => ({
      value: await context.db.transaction((sql) =>
        createKey(sql, {
          organization_id: required(context, 'organization'),
          environment_id: required(context, 'environment'),
          name: optional(context, 'name') ?? 'key',
          permissions: list(optional(context, 'permissions')) ?? ['READ'],
          expires_at: optional(context, 'expires-at'),
          valid_ips: list(optional(context, 'valid-ips')),
        }),
      ),
    }),
  },
  'keys list': { usage: 'keys list', options: {}, run: async ({ db }) => ({ value: await listKeys(db) }) },
  'keys revoke': {
    usage: 'keys revoke ID',
    options: {},
    async run({ db, positionals: [id = ''] }) {
      await revokeKey(db, id);
      return { value: { revoked: id } };
    },
  },
  'features set': {
    usage: 'features set --organization ID NAME=on|off …',
    options: { organization: text },
    async run(context) {
      const pairs = context.positionals.map((pair) => {
        const [, name = '', state] = /^(\w+)=(on|off)$/.exec(pair) ?? [];
        if (state === undefined) throw new UsageError(`${pair}: write NAME=on or NAME=off`);
        return [name, state === 'on'] as const;
      });
      if (pairs.length === 0) throw new UsageError('name at least one feature');
      const organization_id = required(context, 'organization');
      return {
        value: { features: await setFeatures(context.db, organization_id, Object.fromEntries(pairs)) },
      };
    },
  },
  'lines create': {
    usage: `lines create --organization ID --environment ID --network N --currency btc|usd --limit N [--node ID] ${RATES_USAGE}`,
    options: {
      organization: text,
      environment: text,
      network: text,
      currency: text,
      limit: text,
      node: text,
      ...RATES,
    },
    async run(context) {
      const node = optional(context, 'node');
      const line = {
        organization_id: required(context, 'organization'),
        environment_id: required(context, 'environment'),
        network: required(context, 'network'),
        currency: required(context, 'currency'),
        limit: amount(context, 'limit'),
        ...(node === null ? {} : { node }),
        ...rates(context),
      };
      return { value: { id: await addLine(context.db, line, context.nodes) } };
    },
  },
  'lines update': {
    usage: `lines update ID [--limit N] [--disable | --enable] ${RATES_USAGE}`,
    options: { limit: text, disable: flag, enable: flag, ...RATES },
    async run(context) {
      const { values, positionals } = context;
      const [id = ''] = positionals;
      if (values['disable'] && values['enable']) throw new UsageError('--disable or --enable, not both');
      const disabled = values['disable'] ? true : values['enable'] ? false : undefined;
      const change = {
        ...(values['limit'] === undefined ? {} : { limit: amount(context, 'limit') }),
        ...(disabled === undefined ? {} : { disabled }),
        ...rates(context),
      };
      if (Object.keys(change).length === 0) throw new UsageError('nothing to change');
      await updateLine(context.db, id, change);
      return { value: { updated: id } };
    },
  },
  deposit: funds('deposit'),
  withdraw: funds('withdraw'),
  audit: {
    usage: 'audit [--nodes]',
    options: { nodes: flag },
    async run({ db, values, compareNodes }) {
      if (values['nodes'] === true) {
        const compared = await compareNodes();
        return { value: compared, failed: compared.some((node) => node['drift_msats'] !== 0n) };
      }
      const checks = await runAudit(db);
      // Not a check: what the operator stands to win or lose by the rate, and has earned.
      const stands = (await positions(db)).map(({ kind, currency, balance }) => ({
        check: `position: ${kind} in ${currency}`,
        ok: true,
        balance,
      }));
      return { value: [...checks, ...stands], failed: checks.some(({ ok }) => !ok) };
    },
  },
  attention: { usage: 'attention', options: {}, run: async ({ db }) => ({ value: await openAttention(db) }) },
  'payments resolve': {
    usage: 'payments resolve ID (--settled PREIMAGE --fee-msats N | --failed)',
    options: { settled: text, 'fee-msats': text, failed: flag },
    async run(context) {
      const { values, positionals } = context;
      const preimage = optional(context, 'settled');
      if ((preimage === null) === (values['failed'] !== true))
        throw new UsageError('give --settled or --failed');
      const verdict =
        preimage === null ? 'failed' : { settled: { preimage, fee_msats: amount(context, 'fee-msats') } };
      const { id, state } = await resolveByOperator(context.db, positionals[0] ?? '', verdict);
      return { value: { id, state } };
    },
  },
};

function funds(kind: 'deposit' | 'withdraw'): Command {
  return {
    usage: `${kind} --wallet ID --amount N`,
    options: { wallet: text, amount: text },
    run: async (context) => ({
      value: await moveFunds(context.db, kind, required(context, 'wallet'), amount(context, 'amount')),
    }),
  };
}

/** One line per command. */
export const usages = (): string[] => Object.values(COMMANDS).map(({ usage }) => `coulomb ${usage}`);

export interface Parsed {
  json: boolean;
  run(place: Place): Promise<Result>;
}

/** Reads a command line; throws `UsageError` before anything is opened. */
export function parseCommand(argv: readonly string[]): Parsed {
  const [first = '', second = ''] = argv;
  const name = COMMANDS[first] ? first : `${first} ${second}`;
  const command = COMMANDS[name];
  if (!command) throw new UsageError(`unknown command ${name.trim()}`);
  const args = argv.slice(name.split(' ').length);
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({
      args,
      options: { ...command.options, json: flag },
      allowPositionals: true,
      strict: true,
    });
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\nusage: coulomb ${command.usage}`);
  }
  const values = parsed.values as Context['values'];
  return {
    json: values['json'] === true,
    run: (place) => command.run({ ...place, values, positionals: parsed.positionals }),
  };
}
