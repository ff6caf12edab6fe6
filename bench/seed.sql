-- $1 organization, $2 environment, $3 line of credit, $4 wallet ids (uuid[]), $5 how many, $6 node, $7 made before
-- Stored payments as the server leaves them: completed receives, each credited once.
WITH made AS (
  SELECT n, gen_random_uuid() AS id, gen_random_uuid() AS credit_id,
    ($4::uuid[])[1 + n % cardinality($4::uuid[])] AS wallet_id,
    now() - interval '30 days' + n * interval '2 seconds' AS at,
    encode(sha256(n::text::bytea), 'hex') AS payment_hash
  FROM generate_series($7::integer + 1, $7::integer + $5::integer) AS n
), payments_made AS (
  INSERT INTO payments (organization_id, environment_id, id, wallet_id, line_of_credit_id, node_id, direction, kind,
    category, currency, state, amount, payable, received, gross, credited, payment_hash, payment_request, description, expiration, expires_at,
    receipts, metadata, last_position, created_at, updated_at)
  SELECT $1, $2, id, wallet_id, $3, $6, 'receive', 'bolt11', 'standard', 'btc', 'completed', 1000, 1000, 1000, 1000, 1000, payment_hash,
    'lntbs10n1' || repeat(payment_hash, 4), 'stored ' || n, 3600, at + interval '1 hour',
    jsonb_build_array(jsonb_build_object('type', 'lightning', 'preimage', payment_hash, 'payment_hash', payment_hash,
      'ledger_id', credit_id)),
    CASE WHEN n % 10 = 0 THEN jsonb_build_object('order', n::text) END, 3, at, at + interval '1 second'
  FROM made
), history_made AS (
  INSERT INTO payment_history (organization_id, environment_id, payment_id, position, event_type, at)
  SELECT $1, $2, id, position, event_type, at + position * interval '0.3 seconds'
  FROM made, (VALUES (1, 'requested'), (2, 'generated'), (3, 'completed')) AS steps (position, event_type)
), keys_made AS (
  INSERT INTO payment_keys (node_id, kind, key, organization_id, environment_id, payment_id)
  SELECT $6, kind, payment_hash, $1, $2, id FROM made, (VALUES ('invoice'), ('credit')) AS kinds (kind)
), events_made AS (
  INSERT INTO ledger_events (organization_id, wallet_id, effective_time, type, event_id, payment_id, currency, amount)
  SELECT $1, wallet_id, at + interval '1 second', 'credited', credit_id, id, 'btc', 1000 FROM made
), transfers_made AS (
  INSERT INTO transfers (organization_id, from_account, to_account, currency, amount, kind, payment_id, at)
  SELECT $1, (SELECT id FROM accounts WHERE organization_id = $1 AND node_id = $6 AND kind = 'channels' AND currency = 'btc'), wallet_id,
    'btc', 1000, 'credited', id, at + interval '1 second' FROM made
), counts_made AS (
  INSERT INTO payment_count_changes (organization_id, environment_id, line_of_credit_id, wallet_id, direction, kind,
    currency, status, slot, count, oldest, newest)
  SELECT $1, $2, $3, wallet_id, 'receive', 'bolt11', 'btc', 'completed', date_bin('10 seconds', at, 'epoch'), count(*),
    min(at), max(at) FROM made GROUP BY wallet_id, date_bin('10 seconds', at, 'epoch')
)
UPDATE accounts a SET total = total + 1000 * c.credits
FROM (SELECT wallet_id, count(*) AS credits FROM made GROUP BY wallet_id) c
WHERE a.organization_id = $1 AND a.id = c.wallet_id
