import { ApiError } from '../core/errors.ts';
import type { WireInteger } from '../core/money.ts';

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

/** A validated PATCH. null removes, omitted keeps (semantics.md section 4). */
export interface PolicyBody {
  max_payment_size_sats?: WireInteger | null;
  transactions_per_minute?: WireInteger | null;
  send_volume_limit_sats?: WireInteger | null;
  template_id?: string | null;
  ofac_compliant?: boolean | null;
  processing_fee?: { send_basis_points: WireInteger; receive_basis_points: WireInteger } | null;
}

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
