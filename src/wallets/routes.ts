import { Type } from 'typebox';
import { createLane } from '../core/batch.ts';
import { createTimestamps, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { requireFeature } from '../core/features.ts';
import { routesWith, type Route } from '../core/http.ts';
import { networkOf } from '../core/networks.ts';
import { dateTime, uint32, uuid, wireInteger } from '../core/schema.ts';
import type { WalletRef } from '../ledger/ledger.ts';
import type { LightningNode } from '../lightning/node.ts';
import { createWallet, removeWallet, walletNotFound, type WalletDeps } from './commands.ts';
import { readLedger } from './ledger.ts';
import { listWallets, readWallets, renameWallet, type WalletRow } from './store.ts';
import { ledgerEventView, walletView } from './view.ts';

const LIST = '/organizations/{organization_id}/wallets';
const ONE = `${LIST}/{wallet_id}`;
const ERRORS = { 400: 'ErrorResponse_WalletBadRequestError' } as const;
const ERRORS_OF_ONE = { ...ERRORS, 404: 'ErrorResponse_WalletNotFoundError' } as const;
const READ = ['READ', 'WRITE'] as const;

const PARAMS = Type.Object({ organization_id: uuid(), wallet_id: uuid() });
const route = routesWith({ tag: 'Wallets', params: PARAMS, errors: ERRORS_OF_ONE });

/** The six operations on wallets of the contract. */
export function walletRoutes(given: {
  db: Database;
  clock: Clock;
  nodes: ReadonlyMap<string, LightningNode>;
}): Route[] {
  const deps: WalletDeps = { db: given.db, nodes: given.nodes, time: createTimestamps(given.clock) };
  const all = [listRoute, createRoute, getRoute, renameRoute, deleteRoute, ledgerRoute];
  return all.map((routeOf) => routeOf(deps));
}

const listRoute = ({ db }: WalletDeps): Route =>
  route({
    method: 'GET',
    path: LIST,
    operation_id: 'get_all_organizations_wallets_as_user',
    summary: "List the environment's wallets",
    permissions: READ,
    params: Type.Object({ organization_id: uuid() }),
    query: Type.Object({
      environment_id: Type.Optional(uuid({ description: "A key sees its own environment's wallets only" })),
      inactive: Type.Optional(Type.Boolean({ description: 'true adds deleted wallets to the active ones' })),
    }),
    success: { status: 200, schema: { type: 'array', items: { $ref: '#/components/schemas/Wallet' } } },
    errors: ERRORS,
    handler: async ({ caller, query }) => {
      const asked = query.environment_id?.toLowerCase() ?? caller.environment_id;
      if (asked !== caller.environment_id) return [];
      // All of them: the contract has no pages here.
      const wallets = await listWallets(db, { ...caller, inactive: query.inactive ?? false });
      return wallets.map(walletView);
    },
  });

const createRoute = (deps: WalletDeps): Route =>
  route({
    method: 'POST',
    path: LIST,
    operation_id: 'create_wallet',
    summary: 'Create a wallet on a line of credit',
    permissions: ['WRITE'],
    params: Type.Object({ organization_id: uuid() }),
    body: Type.Object({
      id: uuid(),
      environment_id: uuid(),
      line_of_credit_id: uuid(),
      name: Type.String({ minLength: 3, maxLength: 256 }),
      network: Type.String({ enum: ['mainnet', 'testnet3', 'mutinynet'] }),
      limit: wireInteger('u-int64', {
        minimum: 0,
        description: "How far below zero the wallet may go, in base units of its line's currency",
      }),
      metadata: Type.Optional(Type.Record(Type.String(), Type.String())),
    }),
    success: { status: 202 },
    errors: ERRORS,
    handler: async ({ caller, body }) => {
      requireFeature(caller.features, 'payments');
      const { organization_id, environment_id } = caller;
      // The same refusal as for another environment in a path: a key has one.
      if (body.environment_id.toLowerCase() !== environment_id) {
        throw new ApiError('access_rights', 'the API key is not for this environment');
      }
      await createWallet(deps, caller, {
        organization_id,
        environment_id,
        id: body.id.toLowerCase(),
        line_of_credit_id: body.line_of_credit_id.toLowerCase(),
        name: body.name,
        network: networkOf(body.network),
        limit: BigInt(body.limit),
        metadata: body.metadata ?? null,
      });
    },
  });

// Reads that arrive together are answered by one query; more than these wait or are refused.
const READ_LANE = { max_batch: 200, max_queue: 10_000, concurrency: 2 };

function getRoute({ db }: WalletDeps): Route {
  const keyOf = (ref: WalletRef): string => `${ref.organization_id}/${ref.id}`;
  const lane = createLane<WalletRef, WalletRow | undefined>({
    ...READ_LANE,
    run: async (refs) => {
      const unique = new Map(refs.map((ref) => [keyOf(ref), ref]));
      const rows = new Map((await readWallets(db, [...unique.values()])).map((row) => [keyOf(row), row]));
      return refs.map((ref) => ({ ok: true, value: rows.get(keyOf(ref)) }));
    },
  });
  return route({
    method: 'GET',
    path: ONE,
    operation_id: 'get_wallet',
    summary: 'Read one wallet with its balance and holds',
    permissions: READ,
    success: { status: 200, schema: { $ref: '#/components/schemas/Wallet' } },
    handler: async ({ caller, params: { wallet_id: id } }) => {
      // By the organization, whose ids are unique: another environment's is then answered like one that does not exist.
      const wallet = await lane.submit({ organization_id: caller.organization_id, id });
      if (wallet?.environment_id !== caller.environment_id) throw walletNotFound(id);
      return walletView(wallet);
    },
  });
}

const renameRoute = ({ db, time }: WalletDeps): Route =>
  route({
    method: 'PATCH',
    path: ONE,
    operation_id: 'update_wallet',
    summary: 'Rename a wallet',
    permissions: ['WRITE'],
    // The contract bounds a new wallet's name only.
    body: Type.Object({ name: Type.String() }),
    success: { status: 202 },
    handler: async ({ caller, params: { wallet_id: id }, body }) => {
      requireFeature(caller.features, 'payments');
      // A deleted wallet can be read but takes no more changes.
      const renamed = await renameWallet(db, { ...caller, id, name: body.name, at: time() });
      if (!renamed) throw walletNotFound(id);
    },
  });

const deleteRoute = (deps: WalletDeps): Route =>
  route({
    method: 'DELETE',
    path: ONE,
    operation_id: 'delete_wallet',
    summary: 'Delete an empty wallet',
    permissions: ['WRITE'],
    success: { status: 202 },
    handler: async ({ caller, params }) => {
      requireFeature(caller.features, 'payments');
      await removeWallet(deps, { ...caller, id: params.wallet_id });
    },
  });

const DEFAULT_PAGE = 100;
const MAX_PAGE = 1000;

const ledgerRoute = ({ db }: WalletDeps): Route =>
  route({
    method: 'GET',
    path: `${ONE}/ledger`,
    operation_id: 'get_wallet_ledger_as_user',
    summary: "Read a wallet's ledger, by offset",
    permissions: READ,
    query: Type.Object({
      offset: Type.Optional(uint32()),
      limit: Type.Optional(uint32({ description: 'Default 100; more than 1000 is taken as 1000' })),
      payment_id: Type.Optional(uuid()),
      start_date: Type.Optional(dateTime({ description: 'Inclusive' })),
      end_date: Type.Optional(dateTime({ description: 'Inclusive' })),
      sort_key: Type.Optional(
        Type.String({
          enum: ['effective_time', 'message_time', 'time_and_effective_time'],
          description: 'All three are the same order here: an event takes effect when it is written',
        }),
      ),
      sort_order: Type.Optional(Type.String({ enum: ['ASC', 'DESC'], description: 'Default DESC' })),
    }),
    success: { status: 200, schema: { $ref: '#/components/schemas/Ledger' } },
    handler: async ({ caller, params: { wallet_id }, query }) => {
      const page = { offset: query.offset ?? 0, limit: Math.min(query.limit ?? DEFAULT_PAGE, MAX_PAGE) };
      const sort_order = query.sort_order === 'ASC' ? 'ASC' : 'DESC';
      const ledger = await readLedger(db, { ...query, ...caller, ...page, wallet_id, sort_order });
      if (!ledger) throw walletNotFound(wallet_id);
      return { items: ledger.events.map(ledgerEventView), ...page, total: ledger.total };
    },
  });
