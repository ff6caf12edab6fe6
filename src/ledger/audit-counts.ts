const SORT = 'direction, kind, currency, status';
const KEY = `organization_id, scope_id, scope, ${SORT}, slot`;
const STATUS = `CASE WHEN p.state IN ('checked', 'claiming', 'dispatched') THEN 'approved' ELSE p.state END`;
const AT_REST = `(p.check_only OR p.state NOT IN ('generating', 'receiving', 'approved', 'claiming', 'dispatched'))`;
const slots = (of: string): string => `
  (VALUES ('line', 10, date_bin('10 seconds', ${of}, 'epoch')), ('wallet', 0, 'epoch')) AS s (scope, width, slot)`;
const scopes = (of: string): string => `
  CASE s.scope WHEN 'wallet' THEN ${of}.wallet_id ELSE ${of}.line_of_credit_id END AS scope_id,
  CASE WHEN s.scope = 'line' AND w.inactive_counted THEN 'inactive' ELSE s.scope END AS scope`;
const WALLET_OF = (of: string): string =>
  `JOIN wallets w ON w.organization_id = ${of}.organization_id AND w.id = ${of}.wallet_id`;

/** What summaries read: lines by slots of ten seconds and wallets as a whole, folded or not; longer times by sums. */
export const COUNTS: { name: string; subject: string }[] = [
  {
    // The first and last are not known where a payment has left since the last fold.
    name: 'payments at rest are counted once, between the first and the last of them',
    subject: `
      SELECT coalesce(c.organization_id, p.organization_id) AS organization_id,
        coalesce(c.scope, p.scope) AS scope, coalesce(c.scope_id, p.scope_id) AS scope_id,
        coalesce(c.slot, p.slot) AS slot, coalesce(c.status, p.status) AS status, c.count, p.count AS of_payments,
        coalesce(c.count = p.count AND (c.lost OR (c.oldest, c.newest) = (p.oldest, p.newest)),
          coalesce(c.count, p.count) = 0) AS ok
      FROM (
        SELECT ${KEY}, sum(count) AS count, min(oldest) AS oldest, max(newest) AS newest, bool_or(count < 0) AS lost
        FROM (
          SELECT ${KEY}, count, oldest, newest FROM payment_counts WHERE width = CASE scope WHEN 'wallet' THEN 0 ELSE 10 END
          UNION ALL
          SELECT c.organization_id, ${scopes('c')}, ${SORT}, s.slot, c.count, c.oldest, c.newest
          FROM payment_counts_horizon h
          JOIN payment_count_changes c ON NOT pg_visible_in_snapshot(c.txid, h.snapshot)
          ${WALLET_OF('c')} CROSS JOIN LATERAL ${slots('c.slot')}
        ) parts GROUP BY ${KEY}
      ) c
      FULL JOIN (
        SELECT ${KEY}, count(*) AS count, min(created_at) AS oldest, max(created_at) AS newest
        FROM (
          SELECT p.organization_id, ${scopes('p')}, p.direction, p.kind, p.currency, ${STATUS} AS status, s.slot,
            p.created_at
          FROM payments p ${WALLET_OF('p')} CROSS JOIN LATERAL ${slots('p.created_at')} WHERE ${AT_REST}
        ) rows GROUP BY ${KEY}
      ) p USING (${KEY})`,
  },
  {
    name: 'counts of longer times are the sums of those of shorter ones',
    subject: `
      SELECT organization_id, scope, scope_id, width, slot, status, c.count, p.count AS of_parts,
        -- A wallet with few payments is counted as a whole only.
        coalesce((c.count, c.oldest, c.newest) = (p.count, p.oldest, p.newest),
          p.count IS NULL AND scope = 'wallet' AND width = 0) AS ok
      FROM (SELECT * FROM payment_counts WHERE width <> 10) c
      FULL JOIN (
        SELECT organization_id, scope_id, scope, ${SORT}, u.width,
          CASE WHEN u.width = 0 THEN 'epoch' ELSE date_bin(make_interval(secs => u.width), slot, 'epoch') END AS slot,
          sum(count) AS count, min(oldest) AS oldest, max(newest) AS newest
        FROM payment_counts t JOIN (VALUES (10, 900), (900, 86400), (86400, 0)) AS u (part, width) ON t.width = u.part
        GROUP BY 1, 2, 3, ${SORT}, u.width, 9
      ) p USING (${KEY}, width)`,
  },
  {
    name: 'a job says of its payment what is so',
    subject: `
      SELECT j.organization_id, j.payment_id, j.status, p.state,
        (j.wallet_id, j.line_of_credit_id, j.direction, j.payment_kind, j.currency, j.created_at)
            = (p.wallet_id, p.line_of_credit_id, p.direction, p.kind, p.currency, p.created_at)
          AND j.status IS NOT DISTINCT FROM CASE WHEN ${AT_REST} THEN NULL ELSE ${STATUS} END AS ok
      FROM jobs j
      LEFT JOIN payments p
        ON p.organization_id = j.organization_id AND p.environment_id = j.environment_id AND p.id = j.payment_id`,
  },
];
