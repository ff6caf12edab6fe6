import type { WalletAccount } from '../src/ledger/ledger.ts';

/** An empty wallet of bitcoin without fees or policies; tests say what else it is. */
export const walletAccount = (fields: Partial<WalletAccount>): WalletAccount => ({
  organization_id: 'org',
  id: 'wallet',
  environment_id: 'env',
  node_id: 'node',
  currency: 'btc',
  limit: 0n,
  total: 0n,
  held: 0n,
  line_disabled: false,
  deleted_at: null,
  line_send_bps: 0,
  line_receive_bps: 0,
  own_send_bps: null,
  own_receive_bps: null,
  max_payment: null,
  sends_per_minute: null,
  send_volume: null,
  ofac_compliant: false,
  ...fields,
});
