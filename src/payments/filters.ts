import { Type } from 'typebox';
import { dateTime } from '../core/schema.ts';

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
  kind: Type.Optional(Type.String({ enum: ['bolt11', 'onchain', 'bip21', 'taprootasset', 'usdbatch'] })),
  direction: Type.Optional(Type.String({ enum: ['send', 'receive'] })),
  start_date: Type.Optional(dateTime()),
  end_date: Type.Optional(dateTime()),
};
