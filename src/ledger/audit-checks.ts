import { COUNTS } from './audit-counts.ts';
import { POLICIES } from './audit-policies.ts';

/** A rule that must hold for every row of `subject`, which says so in a column `ok`. */
export interface Check {
  name: string;
  subject: string;
}

const IN_FLIGHT = `'approved', 'claiming', 'dispatched'`;

/** What moved into and out of each account, by the transfers that `where` selects. */
const movements = (where: string): string => `
  SELECT organization_id, account_id, sum(amount) AS balance FROM (
    SELECT organization_id, to_account AS account_id, amount FROM transfers ${where}
    UNION ALL SELECT organization_id, from_account, -amount FROM transfers ${where}
  ) sides GROUP BY organization_id, account_id`;

/**
 * What msats that a payment sends cost its wallet: of dollars the quote's rate (cents per 10^11 msats), rounded up.
 * Recomputed here from the stored rate alone.
 */
const inWalletCurrency = (msats: string): string => `CASE WHEN p.quote IS NULL THEN (${msats})::numeric ELSE (
    SELECT div((${msats}) * coefficient + unit - 1, unit) FROM (
      SELECT split_part(p.quote->>'rate', 'e', 1)::numeric AS coefficient,
        ('1' || repeat('0', split_part(p.quote->>'rate', 'e', 2)::integer + 11))::numeric AS unit) rate) END`;

const LEDGER: Check[] = [
  {
    // Each row takes from one account what it gives to another, so this makes every currency of every
    // organization sum to zero.
    name: 'transfers move within one organization and currency',
    subject: `
      SELECT t.organization_id, t.seq, t.currency, f.currency AS from_currency, o.currency AS to_currency,
        t.amount > 0 AND f.currency = t.currency AND o.currency = t.currency AS ok
      FROM transfers t
      LEFT JOIN accounts f ON f.organization_id = t.organization_id AND f.id = t.from_account
      LEFT JOIN accounts o ON o.organization_id = t.organization_id AND o.id = t.to_account`,
  },
  {
    name: "a wallet's total is the sum of its transfers",
    subject: `
      SELECT a.organization_id, a.id, a.total, m.balance, a.total = coalesce(m.balance, 0) AS ok
      FROM accounts a
      LEFT JOIN (${movements('')}) m ON m.organization_id = a.organization_id AND m.account_id = a.id
      WHERE a.kind = 'wallet'`,
  },
  {
    name: "a wallet's total is the sum of its ledger events",
    subject: `
      SELECT a.organization_id, a.id, a.total, e.total AS of_events,
        a.total = coalesce(e.total, 0) AND coalesce(e.one_currency, true) AS ok
      FROM accounts a
      LEFT JOIN (
        SELECT organization_id, wallet_id, min(currency) AS currency, min(currency) = max(currency) AS one_currency,
          sum(CASE WHEN type IN ('credited', 'deposited') THEN amount
                   WHEN type IN ('captured', 'withdrawn') THEN -amount ELSE 0 END) AS total
        FROM ledger_events GROUP BY organization_id, wallet_id
      ) e ON e.organization_id = a.organization_id AND e.wallet_id = a.id
      WHERE a.kind = 'wallet'`,
  },
  {
    name: 'no wallet is below its floor, no other account carries a balance',
    subject: `
      SELECT organization_id, id, kind, total, held, "limit",
        CASE WHEN kind = 'wallet' THEN held >= 0 AND total - held + "limit" >= 0
             ELSE total = 0 AND held = 0 END AS ok
      FROM accounts`,
  },
  {
    name: 'what a wallet has on hold is the sum of its holds',
    subject: `
      SELECT a.organization_id, a.id, a.held, h.amount, a.held = coalesce(h.amount, 0) AS ok
      FROM accounts a
      LEFT JOIN (
        SELECT organization_id, wallet_id, sum(amount) AS amount FROM holds GROUP BY organization_id, wallet_id
      ) h ON h.organization_id = a.organization_id AND h.wallet_id = a.id
      WHERE a.kind = 'wallet'`,
  },
  {
    name: 'every hold was held once, ended at most once, and never captured beyond what was held',
    subject: `
      SELECT coalesce(e.organization_id, h.organization_id) AS organization_id, coalesce(e.id, h.id) AS id,
        e.held, e.captured, e.released, h.amount AS open,
        e.helds = 1 AND e.ends = (CASE WHEN h.id IS NULL THEN 1 ELSE 0 END)
          AND coalesce(e.captured <= e.held, true) AND coalesce(e.released = e.held, true)
          AND coalesce(h.amount = e.held, true) AS ok
      FROM (
        SELECT organization_id, wallet_id, event_id AS id,
          count(*) FILTER (WHERE type = 'held') AS helds, count(*) FILTER (WHERE type <> 'held') AS ends,
          sum(amount) FILTER (WHERE type = 'held') AS held,
          sum(amount) FILTER (WHERE type = 'captured') AS captured,
          sum(amount) FILTER (WHERE type = 'released') AS released
        FROM ledger_events WHERE type IN ('held', 'captured', 'released')
        GROUP BY organization_id, wallet_id, event_id
      ) e
      FULL JOIN holds h ON h.organization_id = e.organization_id AND h.wallet_id = e.wallet_id AND h.id = e.id`,
  },
  {
    name: 'every hold belongs to a send in flight or a frozen receive, and every send in flight has its own',
    subject: `
      SELECT coalesce(p.organization_id, h.organization_id) AS organization_id, h.id AS hold_id,
        coalesce(p.id, h.payment_id) AS payment_id, h.amount,
        p.asks AS of_payment, coalesce(p.hold_id = h.id AND p.asks = h.amount, h.frozen, false) AS ok
      FROM (
        SELECT h.*, a.environment_id, EXISTS (
            SELECT FROM payments r
            WHERE r.organization_id = h.organization_id AND r.environment_id = a.environment_id
              AND r.id = h.payment_id AND r.direction = 'receive' AND r.frozen IS NOT NULL) AS frozen
        FROM holds h JOIN accounts a ON a.organization_id = h.organization_id AND a.id = h.wallet_id
      ) h
      FULL JOIN (
        SELECT organization_id, environment_id, id, wallet_id, hold_id,
          ${inWalletCurrency('coalesce(amount, 0) + coalesce(max_fee, 0) + processing_fee')} AS asks
        FROM payments p WHERE direction = 'send' AND state IN (${IN_FLIGHT})
      ) p ON p.organization_id = h.organization_id AND p.environment_id = h.environment_id
        AND p.wallet_id = h.wallet_id AND p.id = h.payment_id`,
  },
  {
    name: 'what a line of credit allocated is the sum of the limits of its live wallets',
    subject: `
      SELECT l.organization_id, l.id, l."limit", l.allocated_limit, w.allocated,
        l.allocated_limit = coalesce(w.allocated, 0) AND l.allocated_limit <= l."limit" AS ok
      FROM lines_of_credit l
      LEFT JOIN (
        SELECT organization_id, line_of_credit_id, sum("limit") AS allocated FROM accounts
        WHERE kind = 'wallet' AND deleted_at IS NULL GROUP BY organization_id, line_of_credit_id
      ) w ON w.organization_id = l.organization_id AND w.line_of_credit_id = l.id`,
  },
  {
    name: 'a wallet, its account and its line agree',
    subject: `
      SELECT a.organization_id, a.id,
        (w.environment_id, w.line_of_credit_id, w.node_id, w.network)
            = (a.environment_id, a.line_of_credit_id, a.node_id, a.network)
          AND (l.environment_id, l.node_id, l.network, l.currency)
            = (a.environment_id, a.node_id, a.network, a.currency)
          AND w.deleted_at IS NOT DISTINCT FROM a.deleted_at
          AND (a.line_disabled, a.line_send_bps, a.line_receive_bps)
            = (l.disabled_at IS NOT NULL, l.send_bps, l.receive_bps) AS ok
      FROM accounts a
      LEFT JOIN wallets w ON w.organization_id = a.organization_id AND w.id = a.id
      LEFT JOIN lines_of_credit l ON l.organization_id = a.organization_id AND l.id = a.line_of_credit_id
      WHERE a.kind = 'wallet'`,
  },
  {
    name: 'rollups are the sum of the transfers before their horizon',
    subject: `
      SELECT r.organization_id, r.account_id, r.balance, m.balance AS of_transfers,
        r.balance = coalesce(m.balance, 0) AS ok
      FROM account_rollups r
      LEFT JOIN (
        SELECT s.organization_id, s.account_id, sum(s.amount) AS balance FROM account_rollups r
        JOIN (
          SELECT organization_id, to_account AS account_id, amount, txid FROM transfers
          UNION ALL SELECT organization_id, from_account, -amount, txid FROM transfers
        ) s ON s.organization_id = r.organization_id AND s.account_id = r.account_id AND s.txid < r.before_txid
        GROUP BY s.organization_id, s.account_id
      ) m ON m.organization_id = r.organization_id AND m.account_id = r.account_id`,
  },
];

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

/** What the ledger says of each payment. */
const EVENTS_OF_PAYMENTS = `
  SELECT organization_id, wallet_id, payment_id,
    sum(amount) FILTER (WHERE type = 'credited') AS credited,
    sum(amount) FILTER (WHERE type = 'captured') AS captured,
    sum(network_fee) FILTER (WHERE type = 'captured') AS network_fee,
    sum(processing_fee) FILTER (WHERE type = 'credited') AS fees_credited,
    count(*) FILTER (WHERE type = 'captured') AS captures
  FROM ledger_events WHERE type IN ('credited', 'captured') GROUP BY organization_id, wallet_id, payment_id`;

const PAYMENTS: Check[] = [
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
      FROM payments p
      LEFT JOIN (${EVENTS_OF_PAYMENTS}) e
        ON e.organization_id = p.organization_id AND e.wallet_id = p.wallet_id AND e.payment_id = p.id
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
      FROM payments p
      LEFT JOIN (${EVENTS_OF_PAYMENTS}) e
        ON e.organization_id = p.organization_id AND e.wallet_id = p.wallet_id AND e.payment_id = p.id
      WHERE p.direction = 'send'`,
  },
  {
    name: 'every credit has its receipt, and every one from outside a key that nothing else has',
    subject: `
      SELECT coalesce(e.organization_id, r.organization_id) AS organization_id,
        coalesce(e.payment_id, r.id) AS payment_id, e.event_id AS credit_id, r.type, r.key,
        e.event_id IS NOT NULL AND (r.type = 'shortcircuit'
          OR (k.payment_id = r.id AND k.organization_id = r.organization_id
              AND k.environment_id = r.environment_id)) AS ok
      FROM (SELECT organization_id, wallet_id, payment_id, event_id FROM ledger_events WHERE type = 'credited') e
      FULL JOIN (
        SELECT p.organization_id, p.environment_id, p.id, p.wallet_id, p.node_id, receipt->>'type' AS type,
          (receipt->>'ledger_id')::uuid AS ledger_id,
          CASE receipt->>'type' WHEN 'lightning' THEN receipt->>'payment_hash'
            WHEN 'onchain' THEN concat(receipt->>'tx_id', ':', receipt->>'vout') END AS key
        FROM payments p CROSS JOIN jsonb_array_elements(p.receipts) receipt
        WHERE p.direction = 'receive' AND receipt->>'ledger_id' IS NOT NULL
      ) r ON r.organization_id = e.organization_id AND r.wallet_id = e.wallet_id AND r.id = e.payment_id
        AND r.ledger_id = e.event_id
      LEFT JOIN payment_keys k ON k.key = r.key AND k.kind = 'credit' AND k.node_id = r.node_id`,
  },
  {
    name: 'a payment hash is in flight or settled for one send only',
    subject: `
      SELECT coalesce(p.organization_id, k.organization_id) AS organization_id,
        coalesce(p.id, k.payment_id) AS payment_id, p.state, k.key, p.id = k.payment_id AS ok
      FROM (
        SELECT organization_id, environment_id, id, node_id, payment_hash, state FROM payments
        WHERE direction = 'send' AND payment_hash IS NOT NULL AND state IN ('completed', ${IN_FLIGHT})
      ) p
      FULL JOIN (SELECT * FROM payment_keys WHERE kind = 'send') k
        ON k.organization_id = p.organization_id AND k.environment_id = p.environment_id AND k.payment_id = p.id
        AND k.key = p.payment_hash AND k.node_id = p.node_id`,
  },
  {
    name: 'every payment under way has a job, and no other has',
    subject: `
      SELECT coalesce(p.organization_id, j.organization_id) AS organization_id,
        coalesce(p.id, j.payment_id) AS payment_id, p.state, j.kind,
        p.id IS NOT NULL AND (p.moving OR j.kind = 'exchange') AND (j.payment_id IS NOT NULL OR NOT p.moving) AS ok
      FROM (
        SELECT organization_id, environment_id, id, state, state IN ('generating', 'receiving', ${IN_FLIGHT}) AS moving
        FROM payments WHERE state IN ('generating', 'receiving', ${IN_FLIGHT}) OR suspended > 0
      ) p
      FULL JOIN jobs j
        ON j.organization_id = p.organization_id AND j.environment_id = p.environment_id AND j.payment_id = p.id`,
  },
];

const EXCHANGES: Check[] = [
  {
    name: 'what payments exchanged is what moved through the exchange accounts in dollars',
    subject: `
      SELECT coalesce(p.organization_id, t.organization_id) AS organization_id, coalesce(p.id, t.payment_id) AS payment_id,
        p.usd_cents, t.amount, p.usd_cents = t.amount AS ok
      FROM (
        SELECT p.organization_id, p.id, sum((exchange->>'usd_cents')::bigint) AS usd_cents
        FROM payments p CROSS JOIN jsonb_array_elements(p.exchanges) exchange
        GROUP BY p.organization_id, p.environment_id, p.id
        HAVING sum((exchange->>'usd_cents')::bigint) > 0
      ) p
      FULL JOIN (
        SELECT organization_id, payment_id, sum(amount) AS amount FROM transfers WHERE kind = 'exchanged'
        GROUP BY organization_id, payment_id
      ) t ON t.organization_id = p.organization_id AND t.payment_id = p.id`,
  },
  {
    name: 'what waits in suspense is what payments say',
    subject: `
      SELECT coalesce(s.organization_id, p.organization_id) AS organization_id, s.balance, p.suspended,
        coalesce(s.balance, 0) = coalesce(p.suspended, 0) AS ok
      FROM (
        SELECT a.organization_id, a.node_id, m.balance FROM accounts a
        JOIN (${movements('')}) m ON m.organization_id = a.organization_id AND m.account_id = a.id
        WHERE a.kind = 'suspense'
      ) s
      FULL JOIN (
        SELECT organization_id, node_id, sum(suspended) AS suspended FROM payments WHERE suspended > 0
        GROUP BY organization_id, node_id
      ) p ON p.organization_id = s.organization_id AND p.node_id = s.node_id`,
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
];

/** Everything that must always be true of the stored ledger and payments. */
export const CHECKS: readonly Check[] = [...LEDGER, ...POLICIES, ...PAYMENTS, ...EXCHANGES, ...COUNTS];
