import { Type } from 'typebox';
import { createLane } from '../core/batch.ts';
import type { Database } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { requireFeature } from '../core/features.ts';
import { routesWith, type Caller, type Permission, type Route } from '../core/http.ts';
import { rawJson } from '../core/json.ts';
import { uuid } from '../core/schema.ts';
import type { WalletRef } from '../ledger/ledger.ts';
import type { LightningNode } from '../lightning/node.ts';
import { isListed, type SanctionsList } from '../lightning/sanctions.ts';
import { handoverTo } from './dispatch.ts';
import { createCommand, paymentExists, type Endpoint } from './create.ts';
import type { Engine } from './engine.ts';
import type { Recipient } from './limits.ts';
import { createRenderer, LIST_QUERY, listPayments } from './list.ts';
import type { PaymentEngine } from './payments.ts';
import {
  givenMaxFee,
  isReceiveBody,
  isSend,
  PaymentRequest,
  selectPaymentRequest,
  selectSendRequest,
  SendPaymentRequest,
  type PaymentBody,
} from './request.ts';
import { checkFeatures, draftReceive, draftSend } from './rules.ts';
import {
  findTargets,
  readPayments,
  readWalletFacts,
  type Target,
  type TargetKey,
  type WalletFacts,
} from './store.ts';
import { summaryRoutes } from './summary-routes.ts';
import { refKey, refOf, walletKey, type Draft, type Payment, type PaymentRef } from './types.ts';
import { paymentView } from './view.ts';

// The operations on payments. A request is judged here as far as it can be without a lock, so that what is refused costs no
// transaction; whatever may change until it is written is judged again in `create.ts`.

export interface PaymentRouteDeps {
  payments: PaymentEngine;
  /** Addresses that must not be paid, where the operator has a list. */
  sanctions: SanctionsList | null;
  /** Signs list cursors; shared by all processes of a deployment. */
  cursor_secret: Buffer;
}

const environment = { organization_id: uuid(), environment_id: uuid() };
const ENVIRONMENT = '/organizations/{organization_id}/environments/{environment_id}';
const PATH = `${ENVIRONMENT}/payments`;
const ERRORS = { 400: 'ErrorResponse_PaymentBadRequestError', 503: 'ErrorResponse_PaymentError' } as const;
const route = routesWith({ tag: 'Payments', errors: ERRORS });

/** The operations on payments of the contract. */
export function paymentRoutes(deps: PaymentRouteDeps): Route[] {
  const { engine } = deps.payments;
  const reads = createReads(engine);
  const create = createPayment(deps, reads);
  const render = createRenderer();
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
        rawJson(await listPayments(engine.db, deps.cursor_secret, caller, query, render)),
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
        return { events: await readHistory(engine.db, ref) };
      },
    }),
    ...summaryRoutes(engine),
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

const refIn = (caller: Caller, payment_id: string): PaymentRef =>
  refOf({ ...caller, id: payment_id.toLowerCase() });

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

// Some 500 bytes each: at most 50 MB.
const MAX_CACHED_WALLETS = 100_000;

/** Reads that arrive together are answered by one query each. */
function createReads({ db, config: { max_batch, max_queue } }: Engine) {
  const readLane = <Ref, Row extends Ref>(
    concurrency: number,
    keyOf: (ref: Ref) => string,
    read: (refs: Ref[]) => Promise<Row[]>,
  ) =>
    createLane<Ref, Row[]>({
      max_batch,
      max_queue,
      concurrency,
      run: async (refs) => {
        const distinct = new Map(refs.map((ref) => [keyOf(ref), ref]));
        const rows = Map.groupBy(await read([...distinct.values()]), keyOf);
        return refs.map((ref) => ({ ok: true, value: rows.get(keyOf(ref)) ?? [] }));
      },
    });
  const wallets = readLane(1, walletKey, (refs: WalletRef[]) => readWalletFacts(db, refs));
  const payments = readLane(2, refKey, (refs: PaymentRef[]) => readPayments(db, refs));
  const targets = readLane(
    1,
    ({ kind, key }) => `${kind}/${key}`,
    (keys: TargetKey[]) => findTargets(db, keys),
  );
  const facts = new Map<string, WalletFacts>();
  return {
    payment: async (ref: PaymentRef) => (await payments.submit(ref))[0],
    targets: (key: TargetKey) => targets.submit(key),
    /** What never changes of a wallet; balances and flags are always read in the batch that uses them. */
    async wallet(ref: WalletRef): Promise<WalletFacts | undefined> {
      const key = walletKey(ref);
      const cached = facts.get(key);
      if (cached) return cached;
      const [wallet] = await wallets.submit(ref);
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

/** What a request comes to: who pays or is paid, through which node, and the draft of the payment. */
interface Judged {
  wallet: WalletFacts;
  node: LightningNode;
  draft: Draft;
}

/** Refuses what cannot be a payment, whatever happens until it is written. */
async function judge(
  { nodes, clock }: Engine,
  reads: Reads,
  caller: Caller,
  body: PaymentBody,
  endpoint: Endpoint,
): Promise<Judged> {
  const kind = isSend(body) ? body.type : body.payment_kind;
  const flow_preference = isSend(body) ? body.flow_preference : undefined;
  checkFeatures(caller.features, kind, flow_preference, endpoint === 'treasury');
  const { organization_id } = caller;
  const wallet = await reads.wallet({ organization_id, id: body.wallet_id.toLowerCase() });
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
  return { wallet, node, draft };
}

/**
 * The receive of this deployment that a send would pay, where paying inside is allowed: on the same network, and test
 * money for test money only.
 */
async function targetOf({ nodes }: Engine, reads: Reads, judged: Judged): Promise<Target | null> {
  const { draft, wallet, node } = judged;
  if (draft.direction !== 'send') return null;
  const found = await reads.targets(
    draft.payment_hash === null
      ? { kind: 'address', key: draft.address ?? '' }
      : { kind: 'invoice', key: draft.payment_hash },
  );
  const isLike = ({ environment_kind, node_id }: Target): boolean => {
    const other = nodes.get(node_id);
    return (
      environment_kind === wallet.environment_kind &&
      other?.sandbox === node.sandbox &&
      other.network === node.network
    );
  };
  return found.find(isLike) ?? null;
}

/** Judges a request, then hands it to the batch that writes it. */
function createPayment({ payments, sanctions }: PaymentRouteDeps, reads: Reads) {
  const { engine } = payments;
  return async (caller: Caller, body: PaymentBody, endpoint: Endpoint): Promise<void> => {
    const id = body.id.toLowerCase();
    let judged: Judged;
    try {
      judged = await judge(engine, reads, caller, body, endpoint);
    } catch (error) {
      // A retry of a payment that exists must hear so, even if its invoice has expired since.
      const known = error instanceof ApiError ? await reads.payment(refIn(caller, id)) : undefined;
      if (known && !(endpoint === 'payments' && isAwaited(known, body))) throw paymentExists(id);
      throw error;
    }
    const { wallet, node, draft } = judged;
    const command = createCommand({
      id,
      endpoint,
      wallet,
      draft,
      metadata: body.metadata && Object.keys(body.metadata).length > 0 ? body.metadata : null,
      quote_id: body.quote_id?.toLowerCase() ?? null,
      gives_max_fee: isSend(body) && givenMaxFee(body.data) !== null,
      recipient: recipientOf(draft, sanctions),
      target: await targetOf(engine, reads, judged),
      handover: handoverTo(engine, node),
      now_ms: engine.clock.now(),
    });
    payments.begin(await engine.writer.create(command));
  };
}
