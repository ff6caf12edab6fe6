import { IN_FLIGHT, inWalletCurrency, movements, type Check } from './audit-ledger.ts';

/** One letter per event, so that a payment's whole story is a word. */
const LETTERS: Record<string, string> = {
  requested: 'r',
  approved: 'a',
  held: 'h',
  dispatched: 'd',
  generated: 'g',
  partially_received: 'p',
  expired: 'e',
  completed: 'c',
  failed: 'f',
};

/** The stories that may stand behind each state (semantics.md section 3, "History"). */
const STORIES: Record<string, string> = {
  'send checked': '^ra$',
  'send approved': '^rah$',
  'send claiming': '^rah$',
  'send dispatched': '^rahd$',
  'send completed': '^rahd?c$',
  'send failed': '^r(a(hd?)?)?f$',
  'receive generating': '^r$',
  'receive receiving': '^rgp*$',
  'receive failed': '^rf$',
  'receive expired': '^rgp*ep*$',
  'receive completed': '^rgp*(ep*)?cp*$',
};

const whens = (pairs: [string, string | number][]): string =>
  pairs.map(([from, to]) => `WHEN '${from}' THEN ${typeof to === 'number' ? to : `'${to}'`}`).join(' ');
const LETTER = `CASE event_type ${whens(Object.entries(LETTERS))} ELSE '?' END`;
const DIGITS = Object.keys(LETTERS).map((_name, index) => (index + 1).toString(16));
const DIGIT = `CASE event_type ${whens(Object.keys(LETTERS).map((name, index) => [name, index + 1]))} ELSE 15 END`;

// Sorting all history takes several times as long as reading it. The place of an event in its story follows
// from its position, so the first 15 are added up as hexadecimal digits in whatever order they are read; a
// missing one stays 0. Only longer stories are put in order.
const PACKED = 15;
const STORY_OF = `CASE WHEN h.last <= ${PACKED}
  THEN translate(rtrim(to_hex(h.packed), '0'), '${DIGITS.join('')}f', '${Object.values(LETTERS).join('')}?')
  ELSE (SELECT string_agg(${LETTER}, '' ORDER BY position) FROM payment_history o
        WHERE o.organization_id = h.organization_id AND o.environment_id = h.environment_id
          AND o.payment_id = h.payment_id) END`;

/** Each payment with what the ledger says of it. */
const PAYMENTS_WITH_EVENTS = `payments p LEFT JOIN (
  SELECT organization_id, wallet_id, payment_id,
    sum(amount) FILTER (WHERE type = 'credited') AS credited,
    sum(amount) FILTER (WHERE type = 'captured') AS captured,
    sum(network_fee) FILTER (WHERE type = 'captured') AS network_fee,
    sum(processing_fee) FILTER (WHERE type = 'credited') AS fees_credited,
    count(*) FILTER (WHERE type = 'captured') AS captures
  FROM ledger_events WHERE type IN ('credited', 'captured') GROUP BY organization_id, wallet_id, payment_id
  ) e ON e.organization_id = p.organization_id AND e.wallet_id = p.wallet_id AND e.payment_id = p.id`;

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

/** What payments say of themselves, of the ledger, of their exchanges, and what summaries read of them. */
export const PAYMENTS: readonly Check[] = [
  {
    name: 'a history has no gaps and tells one of the stories that lead to the state, with one end',
    subject: `
      SELECT coalesce(p.organization_id, h.organization_id) AS organization_id,
        coalesce(p.id, h.payment_id) AS payment_id, p.direction, p.state, p.last_position, h.first, h.last, h.story,
        h.first = 1 AND h.last = length(h.story) AND p.last_position = h.last
          AND h.story ~ CASE p.direction || ' ' || p.state ${whens(Object.entries(STORIES))} END AS ok
      FROM payments p
      FULL JOIN (
        SELECT h.*, ${STORY_OF} AS story FROM (
          SELECT organization_id, environment_id, payment_id, min(position) AS first, max(position) AS last,
            bit_or(CASE WHEN position <= ${PACKED} THEN (${DIGIT})::bigint << (4 * (${PACKED} - position)) ELSE 0 END)
              AS packed
          FROM payment_history GROUP BY organization_id, environment_id, payment_id
        ) h
      ) h ON h.organization_id = p.organization_id AND h.environment_id = p.environment_id AND h.payment_id = p.id`,
  },
  {
    name: 'a receive was credited what its ledger events say, and is completed when that is enough',
    subject: `
      SELECT p.organization_id, p.id AS payment_id, p.state, p.payable, p.received, p.suspended, p.credited, p.gross,
        e.credited AS of_events,
        p.credited = coalesce(e.credited, 0) AND p.gross = p.credited + coalesce(e.fees_credited, 0)
          AND p.suspended <= p.received AND (p.quote IS NOT NULL OR (p.suspended = 0 AND p.gross = p.received))
          AND (p.frozen IS NOT NULL OR (p.state = 'completed')
            = (p.received > p.suspended AND p.received - p.suspended >= coalesce(p.payable, 0))) AS ok
      FROM ${PAYMENTS_WITH_EVENTS}
      WHERE p.direction = 'receive'`,
  },
  {
    name: 'a send was captured once if it completed, never otherwise, at its rate and within its fee cap',
    subject: `
      SELECT p.organization_id, p.id AS payment_id, p.state, p.amount, p.network_fee, p.max_fee, e.captured,
        CASE WHEN p.state = 'completed'
             THEN e.captures = 1 AND e.captured = ${inWalletCurrency('p.amount + p.network_fee + p.processing_fee')}
               AND (p.quote IS NOT NULL OR e.network_fee = p.network_fee)
               AND p.network_fee BETWEEN 0 AND p.max_fee AND e.captured <= p.hold_amount
             ELSE e.captures IS NULL OR e.captures = 0 END AS ok
      FROM ${PAYMENTS_WITH_EVENTS}
      WHERE p.direction = 'send'`,
  },
  {
    name: 'every credit has its receipt, and every one from outside a key that nothing else has',
    subject: `
      SELECT c.organization_id, c.payment_id, e.event_id AS credit_id, r.type, r.key,
        e.event_id IS NOT NULL AND (r.type = 'shortcircuit'
          OR (k.payment_id = r.payment_id AND k.organization_id = r.organization_id
              AND k.environment_id = r.environment_id)) AS ok
      FROM (SELECT organization_id, wallet_id, payment_id, event_id FROM ledger_events WHERE type = 'credited') e
      FULL JOIN (
        SELECT p.organization_id, p.environment_id, p.id AS payment_id, p.wallet_id, p.node_id,
          receipt->>'type' AS type, (receipt->>'ledger_id')::uuid AS event_id,
          CASE receipt->>'type' WHEN 'lightning' THEN receipt->>'payment_hash'
            WHEN 'onchain' THEN concat(receipt->>'tx_id', ':', receipt->>'vout') END AS key
        FROM payments p CROSS JOIN jsonb_array_elements(p.receipts) receipt
        WHERE p.direction = 'receive' AND receipt->>'ledger_id' IS NOT NULL
      ) r USING (organization_id, wallet_id, payment_id, event_id) AS c
      LEFT JOIN payment_keys k ON k.key = r.key AND k.kind = 'credit' AND k.node_id = r.node_id`,
  },
  {
    name: 'a payment hash is in flight or settled for one send only',
    subject: `
      SELECT organization_id, payment_id, p.state, k.key, p.payment_id = k.payment_id AS ok
      FROM (
        SELECT organization_id, environment_id, id AS payment_id, node_id, payment_hash AS key, state FROM payments
        WHERE direction = 'send' AND payment_hash IS NOT NULL AND state IN ('completed', ${IN_FLIGHT})
      ) p
      FULL JOIN (SELECT * FROM payment_keys WHERE kind = 'send') k
        USING (organization_id, environment_id, payment_id, node_id, key)`,
  },
  {
    name: 'every payment under way has a job, and no other has',
    subject: `
      SELECT organization_id, payment_id, p.state, j.kind,
        p.payment_id IS NOT NULL AND (p.moving OR j.kind = 'exchange') AND (j.payment_id IS NOT NULL OR NOT p.moving) AS ok
      FROM (
        SELECT organization_id, environment_id, id AS payment_id, state, state IN ('generating', 'receiving', ${IN_FLIGHT}) AS moving
        FROM payments WHERE state IN ('generating', 'receiving', ${IN_FLIGHT}) OR suspended > 0
      ) p
      FULL JOIN jobs j USING (organization_id, environment_id, payment_id)`,
  },
  {
    name: 'what payments exchanged is what moved through the exchange accounts in dollars',
    subject: `
      SELECT organization_id, payment_id, p.usd_cents, t.amount, p.usd_cents = t.amount AS ok
      FROM (
        SELECT p.organization_id, p.id AS payment_id, sum((exchange->>'usd_cents')::bigint) AS usd_cents
        FROM payments p CROSS JOIN jsonb_array_elements(p.exchanges) exchange
        GROUP BY p.organization_id, p.environment_id, p.id
        HAVING sum((exchange->>'usd_cents')::bigint) > 0
      ) p
      FULL JOIN (
        SELECT organization_id, payment_id, sum(amount) AS amount FROM transfers WHERE kind = 'exchanged'
        GROUP BY organization_id, payment_id
      ) t USING (organization_id, payment_id)`,
  },
  {
    name: 'what waits in suspense is what payments say',
    subject: `
      SELECT organization_id, s.balance, p.suspended,
        coalesce(s.balance, 0) = coalesce(p.suspended, 0) AS ok
      FROM (
        SELECT a.organization_id, a.node_id, m.balance FROM accounts a
        JOIN (${movements('')}) m ON m.organization_id = a.organization_id AND m.account_id = a.id
        WHERE a.kind = 'suspense'
      ) s
      FULL JOIN (
        SELECT organization_id, node_id, sum(suspended) AS suspended FROM payments WHERE suspended > 0
        GROUP BY organization_id, node_id
      ) p USING (organization_id, node_id)`,
  },
  {
    name: 'a quote serves the one payment that names it, and that one agrees with it',
    subject: `
      SELECT coalesce(q.organization_id, p.organization_id) AS organization_id, coalesce(q.id, p.quote_id) AS quote_id,
        p.id AS payment_id,
        CASE WHEN q.id IS NULL THEN p.state = 'failed' AND p.hold_id IS NULL
             ELSE q.id = p.quote_id AND q.wallet_id = p.wallet_id AND q.rate = p.quote->>'rate'
               AND q.amount = coalesce(p.requested, p.amount) END AS ok
      FROM (SELECT * FROM quotes WHERE consumed_at IS NOT NULL) q
      FULL JOIN (SELECT * FROM payments WHERE quote_id IS NOT NULL) p
        ON p.organization_id = q.organization_id AND p.environment_id = q.environment_id AND p.id = q.payment_id`,
  },
  {
    // The first and last are not known where a payment has left since the last fold.
    name: 'payments at rest are counted once, between the first and the last of them',
    subject: `
      SELECT organization_id, scope, scope_id, slot, status, c.count, p.count AS of_payments,
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
