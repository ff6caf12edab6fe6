import { Type } from 'typebox';
import { createLane } from '../core/batch.ts';
import type { Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { requireFeature } from '../core/features.ts';
import { routesWith, type Caller, type Permission, type Route } from '../core/http.ts';
import { rawJson, stringifyJson } from '../core/json.ts';
import { uint32, uuid } from '../core/schema.ts';
import type { LightningNode } from '../lightning/node.ts';
import { isListed, type SanctionsList } from '../lightning/sanctions.ts';
import { handoverTo } from './dispatch.ts';
import { createCommand, type Endpoint } from './create.ts';
import type { Recipient } from './limits.ts';
import { PAYMENT_FILTERS } from './filters.ts';
import { createRenderer, listPayments, pageJson, type ListQuery } from './list.ts';
import type { PaymentEngine } from './payments.ts';
import {
  givenMaxFee,
  isSend,
  PaymentRequest,
  selectPaymentRequest,
  selectSendRequest,
  SendPaymentRequest,
  type PaymentBody,
} from './request.ts';
import { checkFeatures, draftReceive, draftSend, type Draft } from './rules.ts';
import { findTargets, readPayments, readWalletFacts, type Target, type WalletFacts } from './store.ts';
import { summaryRoutes } from './summary-routes.ts';
import { refKey, type Payment, type PaymentRef } from './types.ts';
import { paymentView } from './view.ts';

export interface PaymentRouteDeps {
  db: Database;
  clock: Clock;
  nodes: ReadonlyMap<string, LightningNode>;
  payments: PaymentEngine;
  /** Addresses that must not be paid, where the operator has a list. */
  sanctions: SanctionsList | null;
  /** Signs list cursors; shared by all processes of a deployment. */
  cursor_secret: Buffer;
  max_batch: number;
  max_queue: number;
}

const environment = { organization_id: uuid(), environment_id: uuid() };
const ENVIRONMENT = '/organizations/{organization_id}/environments/{environment_id}';
const PATH = `${ENVIRONMENT}/payments`;
const ERRORS = { 400: 'ErrorResponse_PaymentBadRequestError', 503: 'ErrorResponse_PaymentError' } as const;
const route = routesWith({ tag: 'Payments', errors: ERRORS });

const isReceiveBody = (body: unknown): boolean =>
  typeof body === 'object' &&
  body !== null &&
  (body as { payment_kind?: unknown }).payment_kind !== undefined;

/** The operations on payments of the contract. */
export function paymentRoutes(deps: PaymentRouteDeps): Route[] {
  const reads = createReads(deps);
  const create = createPayment(deps, reads);
  const render = createRenderer((payment) => stringifyJson(paymentView(payment)));
  return [
    ...creationRoutes(create),
    route({
      method: 'GET',
      path: PATH,
      operation_id: 'get_payments',
      summary: 'List payments, by cursor or by offset',
      permissions: ['READ', 'WRITE'],
      params: Type.Object(environment),
      query: LIST_QUERY,
      success: { status: 200, schema: { $ref: '#/components/schemas/Payments' } },
      handler: async ({ caller, query }) =>
        rawJson(
          pageJson(await listPayments(deps.db, deps.cursor_secret, caller, query as ListQuery, render)),
        ),
    }),
    route({
      method: 'GET',
      path: `${PATH}/{payment_id}`,
      operation_id: 'get_payment',
      summary: 'Read one payment',
      permissions: ['READ', 'WRITE', 'RECEIVE'],
      params: Type.Object({ ...environment, payment_id: uuid() }),
      success: { status: 200, schema: { $ref: '#/components/schemas/Payment' } },
      errors: { ...ERRORS, 404: 'ErrorResponse_PaymentNotFoundError' },
      handler: async ({ caller, params }) => {
        const payment = await reads.payment(refIn(caller, params.payment_id));
        if (!payment || !mayRead(caller, payment)) {
          throw new ApiError('payment_not_found', `no payment ${params.payment_id}`, {
            context: { payment_id: params.payment_id },
          });
        }
        return paymentView(payment);
      },
    }),
    route({
      method: 'GET',
      path: `${PATH}/{payment_id}/history`,
      operation_id: 'get_payment_history',
      summary: 'Read what happened to a payment, in order',
      permissions: ['READ', 'WRITE', 'RECEIVE'],
      params: Type.Object({ ...environment, payment_id: uuid() }),
      success: { status: 200, schema: { $ref: '#/components/schemas/PaymentHistory' } },
      handler: async ({ caller, params }) => {
        const ref = refIn(caller, params.payment_id);
        if (!caller.permissions.has('READ') && !caller.permissions.has('WRITE')) {
          const payment = await reads.payment(ref);
          if (!payment || !mayRead(caller, payment)) return { events: [] };
        }
        return { events: await readHistory(deps.db, ref) };
      },
    }),
    ...summaryRoutes(deps),
  ];
}

/** The three ways to make a payment, which take the same requests. */
function creationRoutes(
  create: (caller: Caller, body: PaymentBody, endpoint: Endpoint) => Promise<void>,
): Route[] {
  const common = {
    method: 'POST',
    params: Type.Object(environment),
    success: { status: 202 },
  } as const;
  const errors = { 400: ERRORS[400], 409: 'ErrorResponse_PaymentConflictError' };
  return [
    route({
      ...common,
      path: PATH,
      operation_id: 'create_payment',
      summary: 'Create a payment: a send or a receive, accepted now and processed asynchronously',
      // A receive needs RECEIVE; anything else moves money out and needs WRITE.
      permissions: (body): readonly Permission[] => (isReceiveBody(body) ? ['RECEIVE', 'WRITE'] : ['WRITE']),
      body: PaymentRequest,
      selectBody: selectPaymentRequest,
      errors,
      handler: async ({ caller, body }) => create(caller, body as PaymentBody, 'payments'),
    }),
    route({
      ...common,
      path: `${PATH}/check`,
      operation_id: 'check_payment',
      summary: "Judge a send by its wallet's policies; nothing is held or sent",
      permissions: ['WRITE'],
      body: SendPaymentRequest,
      selectBody: selectSendRequest,
      errors,
      handler: async ({ caller, body }) => create(caller, body as PaymentBody, 'check'),
    }),
    route({
      ...common,
      path: `${ENVIRONMENT}/treasury_movements`,
      operation_id: 'create_treasury_movement',
      summary: "Move the owner's own funds in or out, without a processing fee",
      permissions: ['WRITE'],
      body: PaymentRequest,
      selectBody: selectPaymentRequest,
      errors: { ...errors, 404: 'ErrorResponse_PaymentNotFoundError' },
      handler: async ({ caller, body }) => create(caller, body as PaymentBody, 'treasury'),
    }),
  ];
}

const nullable = Type.Optional;
const LIST_QUERY = Type.Object({
  offset: nullable(uint32({ deprecated: true, description: 'Replaced by cursors' })),
  limit: nullable(uint32({ description: 'Default 100; more than 1000 is taken as 1000' })),
  cursor: nullable(
    Type.String({ description: 'next_cursor of the page before, with the same filters and sort' }),
  ),
  pagination: nullable(Type.String({ enum: ['offset', 'cursor'] })),
  wallet_id: nullable(uuid()),
  line_of_credit_id: nullable(uuid()),
  payment_category: nullable(Type.String({ enum: ['standard', 'treasury'] })),
  sort_key: nullable(Type.String({ enum: ['created_at', 'updated_at'] })),
  sort_order: nullable(Type.String({ enum: ['ASC', 'DESC'] })),
  ...PAYMENT_FILTERS,
  check_only: nullable(Type.Boolean({ description: 'true: only policy checks; false: none of them (ours)' })),
});

const refIn = (caller: Caller, payment_id: string): PaymentRef => ({
  organization_id: caller.organization_id,
  environment_id: caller.environment_id,
  id: payment_id.toLowerCase(),
});

/** A key that may only receive sees receives. */
const mayRead = (caller: Caller, payment: Payment): boolean =>
  payment.direction === 'receive' || caller.permissions.has('READ') || caller.permissions.has('WRITE');

const readHistory = (db: Database, ref: PaymentRef): Promise<object[]> =>
  db.query(
    `SELECT event_type, error, at AS time, position FROM payment_history
     WHERE organization_id = $1 AND environment_id = $2 AND payment_id = $3 ORDER BY position`,
    [ref.organization_id, ref.environment_id, ref.id],
    'payment history',
  );

const MAX_CACHED_WALLETS = 100_000;

/** Reads that arrive together are answered by one query each. */
function createReads({ db, max_batch, max_queue }: PaymentRouteDeps) {
  const facts = new Map<string, WalletFacts>();
  const walletLane = createLane<{ organization_id: string; id: string }, WalletFacts | undefined>({
    max_batch,
    max_queue,
    concurrency: 1,
    run: async (refs) => {
      const rows = await readWalletFacts(db, refs);
      const found = new Map(rows.map((wallet) => [`${wallet.organization_id}/${wallet.id}`, wallet]));
      return refs.map((ref) => ({ ok: true, value: found.get(`${ref.organization_id}/${ref.id}`) }));
    },
  });
  const payments = createLane<PaymentRef, Payment | undefined>({
    max_batch,
    max_queue,
    concurrency: 2,
    run: async (refs) => {
      const unique = new Map(refs.map((ref) => [refKey(ref), ref]));
      const rows = new Map((await readPayments(db, [...unique.values()])).map((row) => [refKey(row), row]));
      return refs.map((ref) => ({ ok: true, value: rows.get(refKey(ref)) }));
    },
  });
  const targets = createLane<{ kind: 'invoice' | 'address'; key: string }, Target[]>({
    max_batch,
    max_queue,
    concurrency: 1,
    run: async (keys) => {
      const found = Map.groupBy(await findTargets(db, keys), ({ kind, key }) => `${kind}/${key}`);
      return keys.map(({ kind, key }) => ({ ok: true, value: found.get(`${kind}/${key}`) ?? [] }));
    },
  });
  return {
    payment: (ref: PaymentRef) => payments.submit(ref),
    targets: (kind: 'invoice' | 'address', key: string) => targets.submit({ kind, key }),
    /** What never changes of a wallet; balances and flags are always read in the batch that uses them. */
    async wallet(organization_id: string, id: string): Promise<WalletFacts | undefined> {
      const key = `${organization_id}/${id}`;
      const cached = facts.get(key);
      if (cached) return cached;
      const wallet = await walletLane.submit({ organization_id, id });
      if (!wallet) return undefined;
      if (facts.size >= MAX_CACHED_WALLETS) facts.clear();
      facts.set(key, wallet);
      return wallet;
    },
  };
}

type Reads = ReturnType<typeof createReads>;

/** What the list says of the address that a send pays, on-chain or beside its invoice. */
function recipientOf({ direction, address }: Draft, sanctions: SanctionsList | null): Recipient {
  if (direction !== 'send' || address === null) return 'unlisted';
  if (!sanctions) return 'unknown';
  return isListed(sanctions, address) ? 'sanctioned' : 'unlisted';
}

/** An approved check waits for its wallet's send of this kind: that hears what is wrong, not that its id exists. */
const isAwaited = (known: Payment, body: PaymentBody): boolean =>
  known.state === 'checked' &&
  isSend(body) &&
  body.type === known.kind &&
  body.wallet_id.toLowerCase() === known.wallet_id;

/** The wallet that pays or is paid, and the draft of the payment; refuses what cannot be one. */
async function judge(
  { clock, nodes }: PaymentRouteDeps,
  reads: Reads,
  caller: Caller,
  body: PaymentBody,
  endpoint: Endpoint,
): Promise<{ wallet: WalletFacts; draft: Draft }> {
  const kind = isSend(body) ? body.type : body.payment_kind;
  const flow_preference = isSend(body) ? body.flow_preference : undefined;
  checkFeatures(caller.features, kind, flow_preference, endpoint === 'treasury');
  const wallet = await reads.wallet(caller.organization_id, body.wallet_id.toLowerCase());
  if (!wallet || wallet.environment_id !== caller.environment_id) {
    const detail = `wallet_id: no wallet ${body.wallet_id}`;
    if (endpoint !== 'treasury') throw new ApiError('invalid_payment', detail);
    throw new ApiError('wallet_not_found', detail, { context: { wallet_id: body.wallet_id } });
  }
  if (wallet.currency === 'usd') requireFeature(caller.features, 'usd', { code: 'disabled' });
  const node = nodes.get(wallet.node_id);
  if (!node) throw new ApiError('not_supported_network', `no node serves ${wallet.network} here`);
  const wallet_currency = wallet.currency;
  const draft = isSend(body)
    ? draftSend(body, { chain: node.chain, now_ms: clock.now(), wallet_currency })
    : draftReceive(body, wallet_currency);
  return { wallet, draft };
}

/** The receive of this deployment that a send would pay, where paying inside is allowed. */
async function targetOf(
  { nodes }: PaymentRouteDeps,
  reads: Reads,
  draft: Draft,
  wallet: WalletFacts,
): Promise<Target | null> {
  if (draft.direction !== 'send') return null;
  const [kind, key] =
    draft.payment_hash === null
      ? (['address', draft.address ?? ''] as const)
      : (['invoice', draft.payment_hash] as const);
  const found = await reads.targets(kind, key);
  const own = nodes.get(wallet.node_id);
  return (
    found.find(
      (target) =>
        target.environment_kind === wallet.environment_kind &&
        nodes.get(target.node_id)?.sandbox === own?.sandbox &&
        nodes.get(target.node_id)?.network === own?.network,
    ) ?? null
  );
}

/** Judges a request, then hands it to the batch that writes it. */
function createPayment(deps: PaymentRouteDeps, reads: Reads) {
  const { clock, nodes, payments, sanctions } = deps;
  return async (caller: Caller, body: PaymentBody, endpoint: Endpoint): Promise<void> => {
    const id = body.id.toLowerCase();
    let judged: Awaited<ReturnType<typeof judge>>;
    try {
      judged = await judge(deps, reads, caller, body, endpoint);
    } catch (error) {
      // A retry of a payment that exists must hear so, even if its invoice has expired since.
      const known = error instanceof ApiError ? await reads.payment(refIn(caller, id)) : undefined;
      if (known && !(endpoint === 'payments' && isAwaited(known, body))) {
        throw new ApiError('payment_exists', `payment ${id} exists`, { context: { payment_id: id } });
      }
      throw error;
    }
    const { wallet, draft } = judged;
    const metadata = body.metadata && Object.keys(body.metadata).length > 0 ? body.metadata : null;
    const target = await targetOf(deps, reads, draft, wallet);
    const quote_id = body.quote_id?.toLowerCase() ?? null;
    const node = nodes.get(wallet.node_id);
    const command = createCommand({
      id,
      endpoint,
      wallet,
      draft,
      metadata,
      quote_id,
      gives_max_fee: isSend(body) && givenMaxFee(body.data) !== null,
      recipient: recipientOf(draft, sanctions),
      target,
      handover: node ? handoverTo(payments.engine, node) : null,
      now_ms: clock.now(),
    });
    payments.begin(await payments.engine.writer.create(command));
  };
}
