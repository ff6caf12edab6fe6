-- The sandbox node's own state: a node like any other, except that it lives in this database.
CREATE TABLE sandbox_nodes (
  node_id text PRIMARY KEY,
  seed bytea NOT NULL CHECK (length(seed) = 32)
);

CREATE SEQUENCE sandbox_settle_index AS bigint;
CREATE TABLE sandbox_invoices (
  payment_hash text PRIMARY KEY,
  preimage text NOT NULL,
  amount_msats bigint CHECK (amount_msats > 0),
  expires_at timestamptz NOT NULL,
  state text NOT NULL CHECK (state IN ('open', 'settled', 'cancelled')),
  paid_msats bigint,
  settle_index bigint,
  settled_at timestamptz
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX sandbox_invoices_settled ON sandbox_invoices (settle_index) WHERE settle_index IS NOT NULL;

-- Invoices of the helpful outside node, and how it will behave.
CREATE TABLE sandbox_outside_invoices (
  payment_hash text PRIMARY KEY,
  preimage text NOT NULL,
  amount_msats bigint CHECK (amount_msats > 0),
  expires_at timestamptz NOT NULL,
  behavior text NOT NULL CHECK (behavior IN ('settle', 'fail', 'stuck', 'unknown')),
  failure_code text NOT NULL,
  fee_msats bigint NOT NULL CHECK (fee_msats >= 0),
  delay_ms integer NOT NULL CHECK (delay_ms >= 0)
);

CREATE SEQUENCE sandbox_payment_index AS bigint;
CREATE TABLE sandbox_payments (
  payment_hash text PRIMARY KEY,
  payment_index bigint NOT NULL,
  preimage text NOT NULL,
  amount_msats bigint NOT NULL,
  fee_msats bigint NOT NULL,
  state text NOT NULL CHECK (state IN ('in_flight', 'settled', 'failed')),
  -- How it ends when it is due; null for one that waits to be told.
  ends_as text CHECK (ends_as IN ('settled', 'failed')),
  failure_code text,
  due_at timestamptz
);
CREATE INDEX sandbox_payments_due ON sandbox_payments (due_at) WHERE state = 'in_flight' AND due_at IS NOT NULL;
CREATE INDEX sandbox_payments_by_index ON sandbox_payments (payment_index);

CREATE TABLE sandbox_chain (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  height integer NOT NULL,
  last_block_at timestamptz NOT NULL
);
INSERT INTO sandbox_chain (height, last_block_at) VALUES (1000, now());

CREATE TABLE sandbox_transactions (
  tx_id text PRIMARY KEY,
  -- in: an outside payer's, to an address here; out: ours
  direction text NOT NULL CHECK (direction IN ('in', 'out')),
  reference text UNIQUE,
  raw text NOT NULL,
  fee_sats bigint NOT NULL,
  -- built: signed, not broadcast; gone: replaced or double-spent
  state text NOT NULL CHECK (state IN ('built', 'mempool', 'mined', 'gone')),
  height integer,
  mined_at timestamptz,
  address text NOT NULL,
  vout integer NOT NULL,
  amount_sats bigint NOT NULL CHECK (amount_sats > 0),
  CHECK ((state = 'mined') = (height IS NOT NULL))
);
CREATE INDEX sandbox_transactions_mined ON sandbox_transactions (height) WHERE state = 'mined';
CREATE INDEX sandbox_transactions_mempool ON sandbox_transactions (tx_id) WHERE state = 'mempool';
