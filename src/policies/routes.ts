import { Type } from 'typebox';
import { createTimestamps, type Clock } from '../core/clock.ts';
import type { Database } from '../core/db.ts';
import { ApiError } from '../core/errors.ts';
import { routesWith, type Route } from '../core/http.ts';
import { uuid } from '../core/schema.ts';
import { POLICY_BODY, readChange } from './rules.ts';
import { changePolicies, readPolicies, type Policy } from './store.ts';

// Policies over HTTP. A payment reads none of these rows: what it obeys stands on its wallet's account, which it locks
// anyway, so a policy binds every payment that is made after the answer to this request.

const PATH = '/organizations/{organization_id}/wallets/{wallet_id}/policies';
const PARAMS = Type.Object({ organization_id: uuid(), wallet_id: uuid() });
const ERRORS = {
  400: 'ErrorResponse_WalletPolicyBadRequestError',
  404: 'ErrorResponse_WalletPolicyNotFoundError',
} as const;
const route = routesWith({ tag: 'Wallet Policies', params: PARAMS, errors: ERRORS });

function dataOf(policy: Policy): object {
  switch (policy.type) {
    case 'max_payment_size':
      return { max_size_sats: policy.bound };
    case 'transaction_velocity':
      return { transactions_per_minute: policy.bound };
    case 'send_volume_limit':
      return { limit_sats: policy.bound };
    case 'ofac_compliant':
      return {};
    case 'processing_fee':
      return { rates: { send_basis_points: policy.send_bps, receive_basis_points: policy.receive_bps } };
  }
}

/** A policy as the contract shows it (schema `Policy`); bounds are bigints, exact on the wire. */
const policyView = (policy: Policy): object => ({
  type: policy.type,
  data: {
    id: policy.id,
    ...dataOf(policy),
    created_at: policy.created_at,
    ...(policy.type === 'ofac_compliant' ? {} : { updated_at: policy.updated_at }),
  },
});

const notFound = (wallet_id: string): ApiError =>
  new ApiError('wallet_policies_not_found', `no wallet ${wallet_id}`, { context: { wallet_id } });

/** The two operations on what a wallet may do. Every wallet has its policies from its creation on. */
export function policyRoutes(deps: { db: Database; clock: Clock; has_sanctions_list: boolean }): Route[] {
  const { db, clock, has_sanctions_list } = deps;
  const time = createTimestamps(clock);
  return [
    route({
      method: 'GET',
      path: PATH,
      operation_id: 'get_wallet_policies',
      summary: 'Read what a wallet may do',
      permissions: ['READ', 'WRITE'],
      success: { status: 200, schema: { $ref: '#/components/schemas/WalletPolicies' } },
      handler: async ({ caller, params }) => {
        const wallet = { ...caller, id: params.wallet_id };
        const found = await readPolicies(db, wallet);
        if (!found) throw notFound(wallet.id);
        const { organization_id, id } = wallet;
        return {
          id,
          organization_id,
          policies: found.policies.map(policyView),
          updated_at: found.updated_at,
        };
      },
    }),
    route({
      method: 'PATCH',
      path: PATH,
      operation_id: 'update_wallet_policies',
      summary: 'Change what a wallet may do',
      permissions: ['WRITE'],
      body: POLICY_BODY,
      keeps_nulls: true,
      success: { status: 202 },
      handler: async ({ caller, params, body }) => {
        const wallet = { ...caller, id: params.wallet_id };
        // Before the change is judged: an unknown wallet answers the same whatever is asked of it.
        if (!(await readPolicies(db, wallet))) throw notFound(wallet.id);
        const change = readChange(wallet.id, body, has_sanctions_list);
        const changed = await db.transaction((sql) => changePolicies(sql, wallet, change, time()));
        if (!changed) throw notFound(wallet.id);
      },
    }),
  ];
}
