import type { Policy } from './store.ts';

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
export const policyView = (policy: Policy): object => ({
  type: policy.type,
  data: {
    id: policy.id,
    ...dataOf(policy),
    created_at: policy.created_at,
    ...(policy.type === 'ofac_compliant' ? {} : { updated_at: policy.updated_at }),
  },
});
