import { Type, type Static, type TSchema } from 'typebox';
import { within } from '../core/clock.ts';
import { ApiError } from '../core/errors.ts';
import { requireStaging } from '../core/features.ts';
import { routesWith, type Route } from '../core/http.ts';
import { MAX_BTC_MSATS, MSATS_PER_SAT, toMsats, toSats, type WireInteger } from '../core/money.ts';
import { uint32, uuid, wireInteger } from '../core/schema.ts';
import { CHAINS, checkAddress } from '../lightning/address.ts';
import { InvalidUri, parseBip21 } from '../lightning/bip21.ts';
import { decodeInvoice, InvalidInvoice } from '../lightning/bolt11.ts';
import type { SandboxNode } from '../lightning/sandbox.ts';
import { SEND_FAILURES, type SendFailure } from '../lightning/node.ts';

// Ours, not the contract's: they play the outside world, payer, payee and chain, so that a client can be written and tested
// without any other node. They act on the node itself, never on payments: those follow as they would on a real one.

const route = routesWith({ tag: 'Sandbox' });

const DEFAULT_EXPIRY_SECONDS = 3600;
// The bound that the HTTP answer keeps; a settlement takes milliseconds.
const WAIT_MS = 30_000;

const text = { type: 'string' };
const integer = { type: 'integer' };
const answer = (properties: Record<string, object>, required = Object.keys(properties)) => ({
  type: 'object',
  required,
  properties,
});

const optionalAmount = Type.Optional(wireInteger('u-int64', { description: 'msats' }));

const InvoiceBody = Type.Object({
  amount_msats: optionalAmount,
  description: Type.Optional(Type.String({ maxLength: 639 })),
  expiry: Type.Optional(uint32({ minimum: 1, maximum: 31_536_000, description: 'seconds, default 3600' })),
  behavior: Type.Optional(
    Type.Union([
      Type.Literal('settle'),
      Type.Literal('fail'),
      Type.Literal('stuck'),
      Type.Literal('unknown'),
    ]),
  ),
  failure_code: Type.Optional(Type.Unsafe<SendFailure>({ type: 'string', enum: [...SEND_FAILURES] })),
  fee_msats: Type.Optional(wireInteger('u-int64', { minimum: 0 })),
  delay_ms: Type.Optional(uint32({ maximum: 3_600_000 })),
});
const PaymentBody = Type.Object({
  payment_request: Type.Optional(Type.String()),
  address: Type.Optional(Type.String()),
  uri: Type.Optional(Type.String()),
  amount_msats: optionalAmount,
  parts: Type.Optional(
    uint32({ minimum: 1, maximum: 16, description: 'the payer splits; the sum is the same' }),
  ),
});
const BlocksBody = Type.Object({ count: Type.Optional(uint32({ minimum: 1, maximum: 1000 })) });
const ReorgBody = Type.Object({ depth: uint32({ minimum: 1, maximum: 100 }) });
const ReplaceBody = Type.Object({ tx_id: Type.String(), to_us: Type.Optional(Type.Boolean()) });
const ReleaseBody = Type.Object({
  payment_hash: Type.String(),
  outcome: Type.Union([Type.Literal('settle'), Type.Literal('fail')]),
});

function checkAmount(given: WireInteger | undefined): bigint | null {
  if (given === undefined) return null;
  const amount = BigInt(given);
  if (amount <= 0n || amount > MAX_BTC_MSATS)
    throw new ApiError('invalid_amount', 'amount_msats is out of range');
  return amount;
}

/** A route that drives the sandbox network; a production environment has none of them. */
const sandboxRoute = <B extends TSchema>(
  what: string,
  summary: string,
  body: B,
  schema: object,
  run: (body: Static<B>) => Promise<unknown>,
): Route =>
  route({
    method: 'POST',
    path: `/organizations/{organization_id}/environments/{environment_id}/sandbox/${what}`,
    operation_id: `sandbox_${what}`,
    summary,
    permissions: ['WRITE'],
    params: Type.Object({ organization_id: uuid(), environment_id: uuid() }),
    body,
    body_optional: true,
    success: { status: 200, schema },
    errors: { 404: 'Envelope' },
    handler: async ({ caller, body: given }) => {
      requireStaging(caller);
      return run(given);
    },
  });

/** The routes that drive the sandbox network. */
export const sandboxRoutes = ({ sandbox: { outside } }: { sandbox: SandboxNode }): Route[] => [
  ...lightningRoutes(outside),
  ...chainRoutes(outside),
];

type Outside = SandboxNode['outside'];

const lightningRoutes = (outside: Outside): Route[] => [
  sandboxRoute(
    'invoices',
    'Make an invoice of a helpful outside node',
    InvoiceBody,
    answer({ payment_request: text, payment_hash: text }),
    async (body) =>
      outside.makeInvoice({
        amount_msats: checkAmount(body.amount_msats),
        description: body.description ?? '',
        expiry_seconds: body.expiry ?? DEFAULT_EXPIRY_SECONDS,
        behavior: body.behavior ?? 'settle',
        failure_code: body.failure_code ?? 'no_route',
        fee_msats: BigInt(body.fee_msats ?? 0),
        delay_ms: body.delay_ms ?? 0,
      }),
  ),
  sandboxRoute(
    'payments',
    'Pay an invoice, address or URI of this server from outside',
    PaymentBody,
    answer({ status: text, payment_hash: text, preimage: text, reason: text, tx_id: text, vout: integer }, [
      'status',
    ]),
    (body) => payFromOutside(outside, body),
  ),
  sandboxRoute(
    'release',
    'End a payment that is stuck or unknown',
    ReleaseBody,
    answer({ payment_hash: text, outcome: text }),
    async (body) => {
      if (!(await outside.release(body.payment_hash, body.outcome))) {
        throw new ApiError('not_found', `no payment ${body.payment_hash} in flight`);
      }
      return body;
    },
  ),
];

const chainRoutes = (outside: Outside): Route[] => [
  sandboxRoute('addresses', 'A fresh address outside', Type.Object({}), answer({ address: text }), () =>
    Promise.resolve({ address: outside.address() }),
  ),
  sandboxRoute('blocks', 'Mine blocks', BlocksBody, answer({ height: integer }), async ({ count = 1 }) => ({
    height: await outside.mine(count),
  })),
  sandboxRoute(
    'reorg',
    'Replace the last blocks by a longer branch without their transactions',
    ReorgBody,
    answer({ height: integer, orphaned: { type: 'array', items: text } }),
    ({ depth }) => outside.reorg(depth),
  ),
  sandboxRoute(
    'replace',
    'Replace an outside transaction in the mempool (RBF)',
    ReplaceBody,
    answer({ tx_id: text }),
    async (body) => {
      const tx_id = await outside.replace(body.tx_id, body.to_us ?? false);
      if (tx_id === null)
        throw new ApiError('not_found', `no outside transaction ${body.tx_id} in the mempool`);
      return { tx_id };
    },
  ),
];

type PayFields = Static<typeof PaymentBody>;

/** Reads what to pay: the URI's invoice if it has one, else its address. */
function readTarget(
  body: PayFields,
): Pick<PayFields, 'payment_request' | 'address'> & { amount: bigint | null } {
  const amount = checkAmount(body.amount_msats);
  if (body.uri === undefined) return { ...body, amount };
  try {
    const uri = parseBip21(body.uri);
    return {
      ...uri,
      amount: amount ?? (uri.payment_request === undefined ? (uri.amount_msats ?? null) : null),
    };
  } catch (error) {
    if (error instanceof InvalidUri) throw new ApiError('invalid_address', `uri: ${error.message}`);
    throw error;
  }
}

async function payFromOutside(outside: Outside, body: PayFields): Promise<object> {
  const { payment_request, address, amount } = readTarget(body);
  if (payment_request !== undefined) {
    const paid = payInvoice(outside, payment_request, amount);
    return within<object>(paid, WAIT_MS, () => ({ status: 'failed', reason: 'timeout' }));
  }
  if (address === undefined) {
    throw new ApiError('invalid_data', 'one of payment_request, address and uri is required');
  }
  const checked = checkAddress(address, CHAINS.mutinynet);
  if (!checked.ok) throw new ApiError(checked.fault, `address: ${checked.detail}`);
  if (amount === null || amount % MSATS_PER_SAT !== 0n || amount < toMsats(checked.dust_sats)) {
    throw new ApiError('invalid_amount', 'amount_msats must be whole sats and not dust');
  }
  const paid = await outside.payAddress(address, toSats(amount));
  return { status: 'broadcast', ...paid };
}

async function payInvoice(outside: Outside, payment_request: string, amount: bigint | null) {
  let invoice: ReturnType<typeof decodeInvoice>;
  try {
    invoice = decodeInvoice(payment_request);
  } catch (error) {
    if (!(error instanceof InvalidInvoice)) throw error;
    throw new ApiError('invalid_bolt11_payment_request', `the invoice cannot be read: ${error.message}`);
  }
  if (invoice.prefix !== CHAINS.mutinynet.invoice_prefix) {
    throw new ApiError('invalid_network', 'the invoice is for another network');
  }
  if (invoice.amount_msats === null && amount === null) {
    throw new ApiError('amount_required', 'the invoice leaves the amount open: amount_msats is required', {
      code: 'required',
      context: { field: 'amount_msats', required: true },
    });
  }
  return outside.payInvoice(invoice.payment_hash, amount);
}
