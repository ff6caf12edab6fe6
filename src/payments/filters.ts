import { Type, type Static, type TObject } from 'typebox';
import { dateTime } from '../core/schema.ts';

/** A word of these, absent for any. */
export const oneOf = <const Word extends string>(words: readonly Word[]) =>
  Type.Optional(Type.Unsafe<Word>({ type: 'string', enum: words }));

/** Which payments: what lists and summaries of them have in common. */
export const PAYMENT_FILTERS = {
  metadata: Type.Optional(Type.Record(Type.String(), Type.String())),
  statuses: Type.Optional(
    Type.Array(
      Type.String({
        enum: ['sending', 'receiving', 'approved', 'generating', 'expired', 'failed', 'completed'],
      }),
    ),
  ),
  // All that the contract has: what no deployment makes yet finds nothing.
  kind: oneOf(['bolt11', 'onchain', 'bip21', 'taprootasset', 'usdbatch']),
  direction: oneOf(['send', 'receive']),
  start_date: Type.Optional(dateTime()),
  end_date: Type.Optional(dateTime()),
};

export type PaymentFilters = Static<TObject<typeof PAYMENT_FILTERS>>;
