-- Payment summaries without counting payments: how many there are of each sort, for all time and by time.

-- What came to rest, or left it, in one transaction. Written by the batch that moves payments, one row per wallet, sort
-- and slot of ten seconds, never updated: batches do not wait for each other. Not history: once folded it is deleted.
CREATE TABLE payment_count_changes (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  line_of_credit_id uuid NOT NULL,
  wallet_id uuid NOT NULL,
  direction text NOT NULL,
  kind text NOT NULL,
  currency text NOT NULL,
  -- The contract's word.
  status text NOT NULL,
  slot timestamptz NOT NULL,
  count integer NOT NULL CHECK (count <> 0),
  oldest timestamptz NOT NULL,
  newest timestamptz NOT NULL,
  txid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX payment_count_changes_by_txid ON payment_count_changes (txid);

-- What was folded of them. A scope is a line of credit (the live and the deleted wallets apart) or a wallet.
CREATE TABLE payment_counts (
  organization_id uuid NOT NULL,
  scope_id uuid NOT NULL,
  scope text NOT NULL CHECK (scope IN ('line', 'inactive', 'wallet')),
  -- Seconds that a row covers from its slot on; 0: all time.
  width integer NOT NULL,
  slot timestamptz NOT NULL,
  direction text NOT NULL,
  kind text NOT NULL,
  currency text NOT NULL,
  status text NOT NULL,
  count bigint NOT NULL CHECK (count >= 0),
  oldest timestamptz NOT NULL,
  newest timestamptz NOT NULL,
  PRIMARY KEY (organization_id, scope_id, scope, width, slot, direction, kind, currency, status)
) WITH (fillfactor = 70);

-- The snapshot up to which changes are folded: those that it does not show are added by whoever reads. Null: the
-- first fold counts the payments themselves. Folding locks this table, so that one does it at a time.
CREATE TABLE payment_counts_horizon (snapshot pg_snapshot);
INSERT INTO payment_counts_horizon VALUES (NULL);

-- Whether the payments of a deleted wallet have moved from `line` to `inactive`.
ALTER TABLE wallets ADD inactive_counted boolean NOT NULL DEFAULT false;
CREATE INDEX wallets_not_counted ON wallets (organization_id, environment_id)
  WHERE deleted_at IS NOT NULL AND NOT inactive_counted;
CREATE INDEX wallets_deleted ON wallets (organization_id, environment_id, id) WHERE deleted_at IS NOT NULL;

-- A payment under way is counted by its job, without looking at the payment: open receives can be many.
ALTER TABLE jobs
  ADD wallet_id uuid,
  ADD line_of_credit_id uuid,
  ADD direction text,
  ADD payment_kind text,
  ADD currency text,
  ADD created_at timestamptz,
  -- The contract's word; null: the payment is at rest, and has a job all the same.
  ADD status text;
UPDATE jobs j SET wallet_id = p.wallet_id, line_of_credit_id = p.line_of_credit_id, direction = p.direction,
  payment_kind = p.kind, currency = p.currency, created_at = p.created_at,
  status = CASE WHEN p.state IN ('approved', 'claiming', 'dispatched') THEN 'approved'
                WHEN p.state IN ('generating', 'receiving') THEN p.state END
FROM payments p
WHERE p.organization_id = j.organization_id AND p.environment_id = j.environment_id AND p.id = j.payment_id;
ALTER TABLE jobs
  ALTER wallet_id SET NOT NULL,
  ALTER line_of_credit_id SET NOT NULL,
  ALTER direction SET NOT NULL,
  ALTER payment_kind SET NOT NULL,
  ALTER currency SET NOT NULL,
  ALTER created_at SET NOT NULL;
CREATE INDEX jobs_of_wallet ON jobs (organization_id, wallet_id);
