import { Type, type Static, type TObject, type TSchema } from 'typebox';
import { ApiError } from '../core/errors.ts';
import { MSATS_PER_SAT, wireAmount, type WireInteger } from '../core/money.ts';
import { oneOf, uuid, wireInteger } from '../core/schema.ts';

// The shapes below are wider than the contract's on purpose (semantics.md section 1): they are told apart
// by `type` or `payment_kind`, and the old numeric fields work on every rail beside the amount objects.

// Stryker disable all: shapes, judged by the tests over HTTP against the contract.

const Currency = Type.String({ pattern: '^(btc|usd|asset:[a-fA-F0-9]{66})$' });
const Amount = Type.Object({
  currency: Currency,
  amount: wireInteger('int64', {
    description: 'In base units of the currency: msats, cents, asset base units',
  }),
  unit: Type.Optional(Type.String({ description: 'Ignored; derived from the currency' })),
  negative: Type.Optional(Type.Boolean()),
});
type Amount = Static<typeof Amount>;
const legacy = (what: string) =>
  Type.Optional(wireInteger('int64', { deprecated: true, description: `Deprecated: ${what}` }));
const amounts = {
  amount: Type.Optional(Amount),
  amount_msats: legacy('use amount'),
  amount_sats: legacy('use amount'),
};
const fees = {
  max_fee: Type.Optional(Amount),
  max_fee_msats: legacy('use max_fee'),
  max_fee_sats: legacy('use max_fee'),
};
const Metadata = Type.Record(Type.String({ maxLength: 256 }), Type.String({ maxLength: 256 }), {
  maxProperties: 50,
  propertyNames: { type: 'string', maxLength: 256 },
});
const common = {
  id: uuid(),
  wallet_id: uuid(),
  quote_id: Type.Optional(uuid()),
  metadata: Type.Optional(Metadata),
};
const FlowPreference = Type.Union([
  Type.String({ enum: ['direct', 'swap'] }),
  Type.Object({
    type: Type.String({ enum: ['swap'] }),
    rail: Type.Optional(Type.String({ enum: ['lightning', 'onchain'] })),
  }),
]);
const AssetKey = Type.String({ pattern: '^[a-fA-F0-9]{66}$' });
type Rail = 'bolt11' | 'onchain' | 'bip21' | 'taprootasset';

const send = (type: Rail, data: Record<string, TSchema>) =>
  Type.Object(
    {
      ...common,
      currency: Currency,
      flow_preference: Type.Optional(FlowPreference),
      type: Type.String({ enum: [type] }),
      data: Type.Object({ ...data, ...amounts, ...fees }),
    },
    { title: `send ${type}` },
  );
const SENDS: Record<Rail, TSchema> = {
  bolt11: send('bolt11', { payment_request: Type.String() }),
  onchain: send('onchain', { address: Type.String(), description: Type.Optional(Type.String()) }),
  bip21: send('bip21', {
    address: Type.String(),
    payment_request: Type.Optional(Type.String()),
    description: Type.Optional(Type.String()),
  }),
  taprootasset: send('taprootasset', { payment_request: Type.String(), asset: AssetKey }),
};
const RAILS = Object.keys(SENDS) as Rail[];
const Receive = Type.Object(
  {
    ...common,
    ...amounts,
    currency: Type.Optional(Currency),
    payment_kind: oneOf(RAILS),
    description: Type.Optional(Type.String()),
    expiration: Type.Optional(wireInteger('int64', { description: 'Seconds; default 3600, at most 86400' })),
  },
  { title: 'receive' },
);

/** Every shape of POST /payments, for the OpenAPI document. */
export const PaymentRequest: TSchema = Type.Union([...Object.values(SENDS), Receive]);

/** The shapes of POST /payments/check: only what is sent is judged beforehand. */
export const SendPaymentRequest: TSchema = Type.Union(Object.values(SENDS));

/** The shape that the body of a check must have. */
export const selectSendRequest = ({ type }: Record<string, unknown>): TSchema =>
  Object.entries(SENDS).find(([rail]) => rail === type)?.[1] ?? UnknownSend;

/**
 * Whether a body is that of a receive, as it came: null is absence. Permission is judged by this before nulls are dropped,
 * and the shape after it; were the two to differ, a key that may only receive could send.
 */
export const isReceiveBody = (body: unknown): boolean =>
  ((body as { payment_kind?: unknown } | null | undefined)?.payment_kind ?? null) !== null;

/** The one shape that a body must have: a send by its `type`, else a receive by its `payment_kind`. */
export function selectPaymentRequest(body: Record<string, unknown>): TSchema {
  return !isReceiveBody(body) && body['type'] !== undefined ? selectSendRequest(body) : Receive;
}
const UnknownSend = Type.Object({ type: oneOf(RAILS) });

// Stryker restore all

type AmountFields = Static<TObject<typeof amounts>>;

/** A validated body of a send: of its data, all that some rail has. */
export interface SendBody extends Static<TObject<typeof common>> {
  currency: string;
  type: Rail;
  flow_preference?: Static<typeof FlowPreference>;
  data: AmountFields &
    Static<TObject<typeof fees>> & { payment_request?: string; address?: string; description?: string };
}
export type ReceiveBody = Static<typeof Receive>;
export type PaymentBody = SendBody | ReceiveBody;

export const isSend = (body: PaymentBody): body is SendBody => 'type' in body && !('payment_kind' in body);

/** An amount as given: signed, in base units; not yet judged. */
export interface GivenAmount {
  currency: string;
  value: bigint;
}

const signed = (amount: Amount): GivenAmount => ({
  currency: amount.currency,
  value: amount.negative === true && amount.amount > 0 ? -BigInt(amount.amount) : BigInt(amount.amount),
});

function agreed(object: Amount | undefined, msats?: WireInteger, sats?: WireInteger): GivenAmount | null {
  const given: GivenAmount[] = [];
  if (object) given.push(signed(object));
  if (msats !== undefined) given.push({ currency: 'btc', value: BigInt(msats) });
  if (sats !== undefined) given.push({ currency: 'btc', value: BigInt(sats) * MSATS_PER_SAT });
  const [first] = given;
  if (!first) return null;
  if (given.some((other) => other.value !== first.value || other.currency !== first.currency)) {
    throw new ApiError('amount_match_failed', 'the amount object and the deprecated amount fields differ');
  }
  return first;
}

/** The amount that a body gives, whichever way; null when it gives none. Throws `amount_match_failed`. */
export const givenAmount = (fields: AmountFields): GivenAmount | null =>
  agreed(fields.amount, fields.amount_msats, fields.amount_sats);

/** The fee cap that a send gives; null when it leaves it to the default. */
export const givenMaxFee = (data: SendBody['data']): GivenAmount | null =>
  agreed(data.max_fee, data.max_fee_msats, data.max_fee_sats);

/** `below_minimum` of the contract, which names the field, what was given and the least allowed. */
export function belowMinimum(
  type: 'invalid_amount' | 'invalid_max_fee' | 'invalid_on_chain_payment',
  field: string,
  given: GivenAmount,
  least: bigint,
): ApiError {
  const shown = given.value < 0n ? -given.value : given.value;
  return new ApiError(type, `${field} is below the minimum of ${least} ${given.currency} base units`, {
    code: 'below_minimum',
    context: {
      field,
      provided_amount: {
        ...wireAmount(given.currency, shown),
        ...(given.value < 0n ? { negative: true } : {}),
      },
      min_amount: wireAmount(given.currency, least),
    },
  });
}
