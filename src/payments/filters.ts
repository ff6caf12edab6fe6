import { Type, type Static, type TObject } from 'typebox';
import { dateTime, oneOf } from '../core/schema.ts';

/** Which payments: what lists and summaries of them have in common. */
export const PAYMENT_FILTERS = {
  metadata: Type.Optional(Type.Record(Type.String(), Type.String())),
  statuses: Type.Optional(
    Type.Array(oneOf(['sending', 'receiving', 'approved', 'generating', 'expired', 'failed', 'completed'])),
  ),
  // All that the contract has: what no deployment makes yet finds nothing.
  kind: Type.Optional(oneOf(['bolt11', 'onchain', 'bip21', 'taprootasset', 'usdbatch'])),
  direction: Type.Optional(oneOf(['send', 'receive'])),
  start_date: Type.Optional(dateTime()),
  end_date: Type.Optional(dateTime()),
};

export type PaymentFilters = Static<TObject<typeof PAYMENT_FILTERS>>;
