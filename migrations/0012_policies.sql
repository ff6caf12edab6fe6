-- What a wallet may do: its policies, what they need to be judged, and sends that were only checked against them.

CREATE TABLE wallet_policies (
  organization_id uuid NOT NULL,
  wallet_id uuid NOT NULL,
  type text NOT NULL,
  id uuid NOT NULL,
  -- Sats, or sends per minute: whatever integer from 1 to 2^64-1 the client gave, exactly.
  bound numeric(20) CHECK (bound BETWEEN 1 AND 18446744073709551615),
  send_bps integer CHECK (send_bps BETWEEN 0 AND 10000),
  receive_bps integer CHECK (receive_bps BETWEEN 0 AND 10000),
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, wallet_id, type),
  FOREIGN KEY (organization_id, wallet_id) REFERENCES wallets,
  CONSTRAINT policy_says_what_its_type_needs CHECK (CASE
    WHEN type IN ('max_payment_size', 'transaction_velocity', 'send_volume_limit')
      THEN bound IS NOT NULL AND send_bps IS NULL AND receive_bps IS NULL
    WHEN type = 'processing_fee' THEN bound IS NULL AND send_bps IS NOT NULL AND receive_bps IS NOT NULL
    ELSE type = 'ofac_compliant' AND bound IS NULL AND send_bps IS NULL AND receive_bps IS NULL END)
);
-- Null: as the wallet was made.
ALTER TABLE wallets ADD policies_updated_at timestamptz;

-- Msats that a wallet with a volume policy has sent per minute, what failed taken off again: a day is 1,440 rows,
-- however many sends it had. Written only under the lock of the wallet's account.
CREATE TABLE send_minutes (
  organization_id uuid NOT NULL,
  wallet_id uuid NOT NULL,
  minute timestamptz NOT NULL,
  amount numeric NOT NULL CHECK (amount >= 0),
  PRIMARY KEY (organization_id, wallet_id, minute)
) WITH (fillfactor = 70);
CREATE INDEX send_minutes_by_age ON send_minutes (minute);

-- A check that became a payment is held then; any other send when it is made.
ALTER TABLE payments
  ADD promoted_at timestamptz,
  ADD CONSTRAINT check_holds_nothing CHECK (NOT check_only
    OR (direction = 'send' AND state IN ('checked', 'failed') AND hold_id IS NULL AND promoted_at IS NULL)),
  ADD CONSTRAINT checked_is_a_check CHECK (state <> 'checked' OR check_only);
CREATE INDEX payments_promoted ON payments (organization_id, wallet_id, promoted_at) WHERE promoted_at IS NOT NULL;
-- Checks have no job: lists of what is approved find them here.
CREATE INDEX payments_checks ON payments (organization_id, environment_id, created_at, id) WHERE check_only;
