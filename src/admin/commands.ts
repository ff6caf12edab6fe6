import type { Database } from '../core/db.ts';
import { writeSecret } from '../core/secret-file.ts';
import type { LineChange, LineRates } from '../credit/store.ts';
import { runAudit } from '../ledger/audit.ts';
import { positions } from '../ledger/rollup.ts';
import { bootstrap, credentialsFile, type ServingNode } from './bootstrap.ts';
import { createKey, listKeys, revokeKey } from './keys.ts';
import { addLine, moveFunds, openAttention, resolveByOperator, setFeatures, updateLine } from './operator.ts';
import { optional, readArguments, required, UsageError, type Given } from './usage.ts';

// The operator's commands. They run beside the servers on the same database, under the same locks and rules. What is
// wrong with a command's name or options is said before any database is opened or started.

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

type Context = Place & Given;

interface Command {
  /** Says which options there are, to people and to `readArguments`. */
  usage: string;
  run(context: Context): Promise<Result>;
}

function amount(given: Given, name: string, fallback?: bigint): bigint {
  const text = optional(given, name);
  if (text === undefined && fallback !== undefined) return fallback;
  if (text === undefined || !/^\d{1,19}$/.test(text))
    throw new UsageError(`--${name} must be a whole number of base units`);
  return BigInt(text);
}

const RATES_USAGE = '[--send-bps N] [--receive-bps N] [--spread-bps N]';
/** The most of each rate: a fee takes no more than all, and a spread well below all, which would make a rate of 0. */
const MOST_BPS = { send_bps: 10_000, receive_bps: 10_000, spread_bps: 5000 };

/** The rates that a command names, in basis points. */
function rates(given: Given): Partial<LineRates> {
  const named: Partial<LineRates> = {};
  for (const rate of ['send_bps', 'receive_bps', 'spread_bps'] as const) {
    const [option, most] = [rate.replace('_', '-'), MOST_BPS[rate]];
    const text = optional(given, option);
    if (text === undefined) continue;
    if (!/^\d{1,5}$/.test(text) || Number(text) > most)
      throw new UsageError(`--${option} must be a whole number of basis points from 0 to ${most}`);
    named[rate] = Number(text);
  }
  return named;
}

const list = (value: string | undefined): string[] | null =>
  value?.split(',').map((part) => part.trim()) ?? null;

const COMMANDS: Record<string, Command> = {
  bootstrap: {
    usage:
      'bootstrap --organization NAME --kind staging|production --network N --currency btc|usd [--limit N] [--node ID] --out FILE',
    async run(context) {
      const kind = required(context, 'kind');
      if (kind !== 'staging' && kind !== 'production')
        throw new UsageError('--kind must be staging or production');
      const currency = required(context, 'currency');
      if (currency !== 'btc' && currency !== 'usd') throw new UsageError('--currency must be btc or usd');
      const out = required(context, 'out');
      const request = {
        organization: required(context, 'organization'),
        kind,
        network: required(context, 'network'),
        currency,
        limit: amount(context, 'limit', 0n),
        wallet_name: 'default',
        node: optional(context, 'node'),
      } as const;
      const made = await bootstrap(context.db, request, context.nodes);
      writeSecret(out, credentialsFile(context.base_url, made));
      // The key stands in that file, which only this user can read, and in no terminal's history (threat 15).
      const { api_key: _secret, ...shown } = made;
      return { value: { ...shown, written_to: out } };
    },
  },
  'keys create': {
    usage:
      'keys create --organization ID --environment ID [--name N] [--permissions READ,WRITE,RECEIVE,BILLING] [--expires-at T] [--valid-ips A,B/24]',
    run: async (context) => ({
      value: await context.db.transaction((sql) =>
        createKey(sql, {
          organization_id: required(context, 'organization'),
          environment_id: required(context, 'environment'),
          name: optional(context, 'name') ?? 'key',
          permissions: list(optional(context, 'permissions')) ?? ['READ'],
          expires_at: optional(context, 'expires-at') ?? null,
          valid_ips: list(optional(context, 'valid-ips')),
        }),
      ),
    }),
  },
  'keys list': { usage: 'keys list', run: async ({ db }) => ({ value: await listKeys(db) }) },
  'keys revoke': {
    usage: 'keys revoke ID',
    async run({ db, positionals: [id = ''] }) {
      await revokeKey(db, id);
      return { value: { revoked: id } };
    },
  },
  'features set': {
    usage: 'features set --organization ID NAME=on|off …',
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
    async run(context) {
      const line = {
        organization_id: required(context, 'organization'),
        environment_id: required(context, 'environment'),
        network: required(context, 'network'),
        currency: required(context, 'currency'),
        limit: amount(context, 'limit'),
        node: optional(context, 'node'),
        ...rates(context),
      };
      return { value: { id: await addLine(context.db, line, context.nodes) } };
    },
  },
  'lines update': {
    usage: `lines update ID [--limit N] [--disable | --enable] ${RATES_USAGE}`,
    async run(context) {
      const { values, positionals } = context;
      const [id = ''] = positionals;
      if (values['disable'] && values['enable']) throw new UsageError('--disable or --enable, not both');
      const change: LineChange = rates(context);
      if (values['limit'] !== undefined) change.limit = amount(context, 'limit');
      if (values['disable'] || values['enable']) change.disabled = values['disable'] === true;
      if (Object.keys(change).length === 0) throw new UsageError('nothing to change');
      await updateLine(context.db, id, change);
      return { value: { updated: id } };
    },
  },
  deposit: funds('deposit'),
  withdraw: funds('withdraw'),
  audit: {
    usage: 'audit [--nodes]',
    async run({ db, values, compareNodes }) {
      if (values['nodes'] === true) {
        const compared = await compareNodes();
        // A node that did not answer has no drift, and was not compared: that fails, too.
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
  attention: { usage: 'attention', run: async ({ db }) => ({ value: await openAttention(db) }) },
  'payments resolve': {
    usage: 'payments resolve ID (--settled PREIMAGE --fee-msats N | --failed)',
    async run(context) {
      const { values, positionals } = context;
      const preimage = optional(context, 'settled');
      if ((preimage === undefined) === (values['failed'] !== true))
        throw new UsageError('give --settled or --failed');
      const verdict =
        preimage === undefined
          ? 'failed'
          : { settled: { preimage, fee_msats: amount(context, 'fee-msats') } };
      const { id, state } = await resolveByOperator(context.db, positionals[0] ?? '', verdict);
      return { value: { id, state } };
    },
  },
};

function funds(kind: 'deposit' | 'withdraw'): Command {
  return {
    usage: `${kind} --wallet ID --amount N`,
    run: async (context) => ({
      value: await moveFunds(context.db, kind, required(context, 'wallet'), amount(context, 'amount')),
    }),
  };
}

/** One line per command. */
export const usages = (): string[] => Object.values(COMMANDS).map(({ usage }) => usage);

/** Reads a command line; throws `UsageError` before anything is opened. */
export function parseCommand(argv: readonly string[]) {
  const [first = '', second = ''] = argv;
  const name = COMMANDS[first] ? first : `${first} ${second}`;
  const command = COMMANDS[name];
  if (!command) throw new UsageError(`unknown command ${name.trim()}`);
  const args = argv.slice(name.split(' ').length);
  const every = { options: { json: { type: 'boolean' } }, allowPositionals: true } as const;
  const given = readArguments(command.usage, args, every);
  return { json: given.values['json'] === true, run: (place: Place) => command.run({ ...place, ...given }) };
}
