import { Type, type Static, type TSchema } from 'typebox';
import { ApiError } from '../core/errors.ts';
import type { WireInteger } from '../core/money.ts';
import { uuid, wireInteger } from '../core/schema.ts';

// What a PATCH of policies asks for, and what it may not ask for. Pure: whether the wallet is there, and what it has by
// now, is the store's to find out.

/** Every policy that the contract lets a client set. `reflex_approval` cannot be set and does not exist here. */
export type PolicyType =
  'max_payment_size' | 'transaction_velocity' | 'send_volume_limit' | 'ofac_compliant' | 'processing_fee';

/** What a policy says: a bound in sats or sends per minute, or fee rates. */
export interface PolicyContent {
  bound: bigint | null;
  send_bps: number | null;
  receive_bps: number | null;
}

/** Policies to set and to remove; what is in neither stays as it is. */
export interface PolicyChange {
  set: ReadonlyMap<PolicyType, PolicyContent>;
  removed: readonly PolicyType[];
}

// Stryker disable all: shapes, judged by the tests over HTTP against the contract.

const MAX_BASIS_POINTS = 10_000;
const orNull = <T extends TSchema>(schema: T) => Type.Optional(Type.Union([schema, Type.Null()]));
const basisPoints = () => wireInteger('int64', { minimum: 0, maximum: MAX_BASIS_POINTS });
const boundOf = (description: string) => orNull(wireInteger('u-int64', { minimum: 1, description }));

/** A PATCH. null removes, omitted keeps (semantics.md section 4). */
export const POLICY_BODY = Type.Object(
  {
    max_payment_size_sats: boundOf('The most that one payment may move, either way'),
    transactions_per_minute: boundOf('Sends in any 60 seconds'),
    send_volume_limit_sats: boundOf('Sats sent in any 24 hours'),
    template_id: orNull(uuid()),
    ofac_compliant: orNull(Type.Boolean({ description: "Refuses sends to addresses on the server's list" })),
    processing_fee: orNull(
      Type.Object({ send_basis_points: basisPoints(), receive_basis_points: basisPoints() }),
    ),
  },
  { additionalProperties: false, description: 'null removes a policy, omitted keeps it' },
);
export type PolicyBody = Static<typeof POLICY_BODY>;

// Stryker restore all

const MAX_UINT64 = 2n ** 64n - 1n;

const BOUNDS = [
  ['max_payment_size', 'max_payment_size_sats'],
  ['transaction_velocity', 'transactions_per_minute'],
  ['send_volume_limit', 'send_volume_limit_sats'],
] as const satisfies [PolicyType, keyof PolicyBody][];

function bound(field: string, given: WireInteger): PolicyContent {
  const value = BigInt(given);
  if (value > MAX_UINT64) throw new ApiError('invalid_data', `${field} must be at most ${MAX_UINT64}`);
  return { bound: value, send_bps: null, receive_bps: null };
}

/**
 * What a PATCH asks for. Throws `no_updates_provided` when it names no policy, `invalid_data` for a number beyond
 * 2^64-1, `invalid_parameter` for a policy that cannot be had here.
 */
export function readChange(wallet_id: string, body: PolicyBody, has_sanctions_list: boolean): PolicyChange {
  const set = new Map<PolicyType, PolicyContent>();
  const removed: PolicyType[] = [];
  if (Object.keys(body).length === 0) {
    const context = { wallet_id };
    throw new ApiError('no_updates_provided', 'nothing to change: name at least one policy', { context });
  }
  if (typeof body.template_id === 'string') {
    throw new ApiError('invalid_parameter', `template_id: no template ${body.template_id}`);
  }
  for (const [type, field] of BOUNDS) {
    const given = body[field];
    if (given === null) removed.push(type);
    else if (given !== undefined) set.set(type, bound(field, given));
  }
  if (body.ofac_compliant === true) {
    if (!has_sanctions_list) {
      throw new ApiError('invalid_parameter', 'ofac_compliant: there is no sanctions list on this server');
    }
    set.set('ofac_compliant', { bound: null, send_bps: null, receive_bps: null });
  } else if (body.ofac_compliant !== undefined) {
    removed.push('ofac_compliant');
  }
  const { processing_fee } = body;
  if (processing_fee === null) {
    removed.push('processing_fee');
  } else if (processing_fee !== undefined) {
    const { send_basis_points, receive_basis_points } = processing_fee;
    const rates = { send_bps: Number(send_basis_points), receive_bps: Number(receive_basis_points) };
    set.set('processing_fee', { bound: null, ...rates });
  }
  return { set, removed };
}
