import { MAX_BIGINT } from './accounts.ts';

// The checks of the ledger. A check adds up by itself what the server keeps up to date step by step, with no function
// that wrote it: a mistake there would be made here, too. Joins are FULL where either side may be the one that is
// missing.

/** A rule that must hold for every row of `subject`, which says so in a column `ok`. */
export interface Check {
  name: string;
  subject: string;
}

export const IN_FLIGHT = `'approved', 'claiming', 'dispatched'`;

/** What moved into and out of each account, by the transfers that `where` selects. */
export const movements = (where: string): string => `
  SELECT organization_id, account_id, sum(amount) AS balance FROM (
    SELECT organization_id, to_account AS account_id, amount FROM transfers ${where}
    UNION ALL SELECT organization_id, from_account, -amount FROM transfers ${where}
  ) sides GROUP BY organization_id, account_id`;

/**
 * What msats that a payment sends cost its wallet: of dollars the quote's rate (cents per 10^11 msats), rounded up.
 * Recomputed here from the stored rate alone.
 */
export const inWalletCurrency = (
  msats: string,
): string => `CASE WHEN p.quote IS NULL THEN (${msats})::numeric ELSE (
    SELECT div((${msats}) * coefficient + unit - 1, unit) FROM (
      SELECT split_part(p.quote->>'rate', 'e', 1)::numeric AS coefficient,
        ('1' || repeat('0', split_part(p.quote->>'rate', 'e', 2)::integer + 11))::numeric AS unit) rate) END`;

/** What the ledger says by itself, and with the lines, policies and holds that it stands for. */
export const LEDGER: readonly Check[] = [
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
      SELECT organization_id, id, e.held, e.captured, e.released, h.amount AS open,
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
      FULL JOIN holds h USING (organization_id, wallet_id, id)`,
  },
  {
    name: 'every hold belongs to a send in flight or a frozen receive, and every send in flight has its own',
    subject: `
      SELECT organization_id, h.id AS hold_id, payment_id, h.amount, p.asks AS of_payment,
        coalesce(p.hold_id = h.id AND p.asks = h.amount, h.frozen, false) AS ok
      FROM (
        SELECT h.*, a.environment_id, EXISTS (
            SELECT FROM payments r
            WHERE r.organization_id = h.organization_id AND r.environment_id = a.environment_id
              AND r.id = h.payment_id AND r.direction = 'receive' AND r.frozen IS NOT NULL) AS frozen
        FROM holds h JOIN accounts a ON a.organization_id = h.organization_id AND a.id = h.wallet_id
      ) h
      FULL JOIN (
        SELECT organization_id, environment_id, id AS payment_id, wallet_id, hold_id,
          ${inWalletCurrency('coalesce(amount, 0) + coalesce(max_fee, 0) + processing_fee')} AS asks
        FROM payments p WHERE direction = 'send' AND state IN (${IN_FLIGHT})
      ) p USING (organization_id, environment_id, wallet_id, payment_id)`,
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
      SELECT organization_id, wallet_id, minute, m.amount, s.amount AS sent,
        coalesce(m.limited, false) AND m.amount = coalesce(s.amount, 0) AS ok
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
      ) s USING (organization_id, wallet_id, minute)`,
  },
];
