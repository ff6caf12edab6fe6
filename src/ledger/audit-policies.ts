import type { Check } from './audit-checks.ts';
import { MAX_BIGINT } from './accounts.ts';

/** What policies say, where they are kept for payments to see. */
export const POLICIES: readonly Check[] = [
  {
    name: "what a wallet's account may do is what its policies say",
    subject: `
      SELECT a.organization_id, a.id,
        (a.max_payment, a.sends_per_minute, a.send_volume, a.own_send_bps, a.own_receive_bps)
            IS NOT DISTINCT FROM (p.size, p.velocity, p.volume, p.send_bps, p.receive_bps)
          AND a.ofac_compliant = coalesce(p.ofac_compliant, false) AS ok
      FROM accounts a
      LEFT JOIN (
        SELECT organization_id, wallet_id,
          max(least(bound * 1000, ${MAX_BIGINT})) FILTER (WHERE type = 'max_payment_size') AS size,
          max(least(bound, ${MAX_BIGINT})) FILTER (WHERE type = 'transaction_velocity') AS velocity,
          max(least(bound * 1000, ${MAX_BIGINT})) FILTER (WHERE type = 'send_volume_limit') AS volume,
          bool_or(type = 'ofac_compliant') AS ofac_compliant,
          max(send_bps) AS send_bps, max(receive_bps) AS receive_bps
        FROM wallet_policies GROUP BY organization_id, wallet_id
      ) p ON p.organization_id = a.organization_id AND p.wallet_id = a.id
      WHERE a.kind = 'wallet'`,
  },
  {
    // Minutes are dropped from the oldest on, so all after a wallet's first one must be there.
    name: 'the minutes of a wallet with a volume policy are what it sent in them',
    subject: `
      SELECT coalesce(m.organization_id, s.organization_id) AS organization_id,
        coalesce(m.wallet_id, s.wallet_id) AS wallet_id, coalesce(m.minute, s.minute) AS minute, m.amount,
        s.amount AS sent, coalesce(m.limited, false) AND m.amount = coalesce(s.amount, 0) AS ok
      FROM (
        SELECT m.*, a.send_volume IS NOT NULL AS limited FROM send_minutes m
        LEFT JOIN accounts a ON a.organization_id = m.organization_id AND a.id = m.wallet_id
      ) m
      FULL JOIN (
        SELECT p.organization_id, p.wallet_id, date_trunc('minute', coalesce(p.promoted_at, p.created_at)) AS minute,
          sum(p.amount) AS amount
        FROM payments p
        JOIN (SELECT organization_id, wallet_id, min(minute) AS minute FROM send_minutes GROUP BY 1, 2) f
          ON f.organization_id = p.organization_id AND f.wallet_id = p.wallet_id
            AND coalesce(p.promoted_at, p.created_at) >= f.minute
        WHERE p.direction = 'send' AND p.hold_id IS NOT NULL AND p.state <> 'failed' GROUP BY 1, 2, 3
      ) s ON s.organization_id = m.organization_id AND s.wallet_id = m.wallet_id AND s.minute = m.minute`,
  },
];
