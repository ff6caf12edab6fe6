-- Tenants, credentials, accounts and their ledger, payments and what moves them.
-- Every table that grows has organization_id in its key (so the schema can be distributed by it);
-- the one exception is payment_keys, which exists to be searched across organizations.

CREATE TABLE settings (
  key text PRIMARY KEY,
  value jsonb NOT NULL
);

CREATE TABLE organizations (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  features text[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE environments (
  organization_id uuid NOT NULL REFERENCES organizations,
  id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('staging', 'production')),
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, id)
);

CREATE TABLE api_keys (
  organization_id uuid NOT NULL,
  id uuid NOT NULL,
  environment_id uuid NOT NULL,
  name text NOT NULL,
  secret_hash bytea NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
  permissions text[] NOT NULL CHECK (permissions <@ ARRAY['READ', 'WRITE', 'RECEIVE', 'BILLING']),
  valid_ips text[],
  expires_at timestamptz,
  revoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, environment_id) REFERENCES environments
);

-- What operators did, kept forever.
CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  organization_id uuid,
  actor text NOT NULL,
  action text NOT NULL,
  detail jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE lines_of_credit (
  organization_id uuid NOT NULL,
  id uuid NOT NULL,
  environment_id uuid NOT NULL,
  node_id text NOT NULL,
  network text NOT NULL CHECK (network IN ('mainnet', 'testnet', 'signet', 'mutinynet')),
  currency text NOT NULL,
  "limit" bigint NOT NULL CHECK ("limit" >= 0),
  -- The sum of the limits of the line's live wallets; kept by the transactions that create and delete them.
  allocated_limit bigint NOT NULL DEFAULT 0 CHECK (allocated_limit >= 0 AND allocated_limit <= "limit"),
  disabled_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, environment_id) REFERENCES environments
);

-- ── Ledger ────────────────────────────────────────────────────────────────────────────────────
-- Only wallets carry a balance that is locked. The others are appended to and summed.
CREATE TABLE accounts (
  organization_id uuid NOT NULL,
  id uuid NOT NULL,
  kind text NOT NULL CHECK (kind IN ('wallet', 'channels', 'chain', 'network_fees', 'processing_fees', 'capital', 'loss', 'frozen')),
  environment_id uuid,
  line_of_credit_id uuid,
  node_id text,
  network text,
  currency text NOT NULL,
  "limit" bigint NOT NULL DEFAULT 0 CHECK ("limit" >= 0),
  total bigint NOT NULL DEFAULT 0,
  held bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
  line_disabled boolean NOT NULL DEFAULT false,
  deleted_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, id),
  -- The floor: whatever the code decides, a wallet never goes below minus its limit.
  CONSTRAINT wallet_floor CHECK (kind <> 'wallet' OR total - held + "limit" >= 0),
  CONSTRAINT unlocked_accounts_carry_no_balance CHECK (kind = 'wallet' OR (total = 0 AND held = 0))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX accounts_of_node ON accounts (organization_id, node_id, kind, currency) WHERE kind <> 'wallet';

CREATE TABLE wallets (
  organization_id uuid NOT NULL,
  id uuid NOT NULL,
  environment_id uuid NOT NULL,
  line_of_credit_id uuid NOT NULL,
  node_id text NOT NULL,
  network text NOT NULL,
  name text NOT NULL,
  metadata jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz,
  PRIMARY KEY (organization_id, id),
  FOREIGN KEY (organization_id, id) REFERENCES accounts,
  FOREIGN KEY (organization_id, line_of_credit_id) REFERENCES lines_of_credit
);
CREATE INDEX wallets_of_environment ON wallets (organization_id, environment_id, created_at, id);

-- One row moves one amount from one account to another, so the sum over all accounts is zero by construction.
CREATE SEQUENCE transfer_seq AS bigint CACHE 100;
CREATE TABLE transfers (
  organization_id uuid NOT NULL,
  seq bigint NOT NULL DEFAULT nextval('transfer_seq'),
  txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  from_account uuid NOT NULL,
  to_account uuid NOT NULL CHECK (to_account <> from_account),
  currency text NOT NULL,
  amount bigint NOT NULL CHECK (amount > 0),
  kind text NOT NULL,
  payment_id uuid,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, seq)
);
CREATE INDEX transfers_by_txid ON transfers (txid);

-- Sums of transfers up to a transaction horizon, so that an unlocked account is read without its whole history.
CREATE TABLE account_rollups (
  organization_id uuid NOT NULL,
  account_id uuid NOT NULL,
  before_txid xid8 NOT NULL,
  balance numeric NOT NULL,
  PRIMARY KEY (organization_id, account_id)
);

-- What a wallet's owner sees: held, captured, released, credited, deposited, withdrawn.
CREATE SEQUENCE ledger_event_seq AS bigint CACHE 100;
CREATE TABLE ledger_events (
  organization_id uuid NOT NULL,
  wallet_id uuid NOT NULL,
  effective_time timestamptz NOT NULL,
  seq bigint NOT NULL DEFAULT nextval('ledger_event_seq'),
  type text NOT NULL CHECK (type IN ('held', 'captured', 'released', 'credited', 'deposited', 'withdrawn')),
  event_id uuid NOT NULL,
  payment_id uuid,
  currency text NOT NULL,
  amount bigint NOT NULL CHECK (amount >= 0),
  network_fee bigint NOT NULL DEFAULT 0 CHECK (network_fee >= 0),
  processing_fee bigint NOT NULL DEFAULT 0 CHECK (processing_fee >= 0),
  PRIMARY KEY (organization_id, wallet_id, effective_time, seq)
);
CREATE INDEX ledger_events_of_payment ON ledger_events (organization_id, payment_id);

-- Funds reserved now. A hold goes away when it is captured or released; its story stays in ledger_events.
CREATE TABLE holds (
  organization_id uuid NOT NULL,
  wallet_id uuid NOT NULL,
  id uuid NOT NULL,
  payment_id uuid NOT NULL,
  amount bigint NOT NULL CHECK (amount >= 0),
  effective_time timestamptz NOT NULL,
  PRIMARY KEY (organization_id, wallet_id, id)
) WITH (fillfactor = 70);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ── Payments ──────────────────────────────────────────────────────────────────────────────────
CREATE TABLE payments (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  wallet_id uuid NOT NULL,
  line_of_credit_id uuid NOT NULL,
  node_id text NOT NULL,
  direction text NOT NULL CHECK (direction IN ('send', 'receive')),
  kind text NOT NULL CHECK (kind IN ('bolt11', 'onchain', 'bip21')),
  category text NOT NULL CHECK (category IN ('standard', 'treasury')),
  check_only boolean NOT NULL DEFAULT false,
  currency text NOT NULL,
  -- The state machine's state: payments/states.ts declares them and their moves. Never the client's word.
  state text NOT NULL,
  -- Principal in base units of `currency`; of a receive: what was asked for, null for any amount.
  amount bigint CHECK (amount >= 0),
  max_fee bigint CHECK (max_fee >= 0),
  network_fee bigint CHECK (network_fee >= 0),
  processing_fee bigint NOT NULL DEFAULT 0 CHECK (processing_fee >= 0),
  -- Sum of what a receive was credited.
  credited bigint NOT NULL DEFAULT 0 CHECK (credited >= 0),
  hold_id uuid,
  payment_hash text,
  payment_request text,
  address text,
  description text,
  expiration integer,
  expires_at timestamptz,
  -- The receive that an internal send pays: its organization, environment and id.
  target jsonb,
  -- Outflows of a send, receipts of a receive, as the contract shows them.
  receipts jsonb NOT NULL,
  frozen jsonb,
  error jsonb,
  metadata jsonb,
  last_position integer NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, environment_id, id)
) WITH (fillfactor = 60);
-- No index names a column that changes: an update of a payment stays within its page (heap-only).
CREATE INDEX payments_by_created ON payments (organization_id, environment_id, created_at, id);
CREATE INDEX payments_of_wallet ON payments (organization_id, wallet_id, created_at, id);
CREATE INDEX payments_by_metadata ON payments USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL;

CREATE TABLE payment_history (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  payment_id uuid NOT NULL,
  position integer NOT NULL CHECK (position >= 1),
  event_type text NOT NULL,
  error text,
  at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, environment_id, payment_id, position)
);
-- A payment's updated_at is the time of its last event: lists sorted by it walk this index.
CREATE INDEX payment_history_by_time ON payment_history (organization_id, environment_id, at, payment_id);
CREATE TRIGGER payment_history_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payment_history
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What must be found, and be unique, across organizations:
--   invoice  payment hash of a receive's invoice        address  script of a receive's address
--   send     payment hash in flight or settled          credit   a settled hash or `txid:vout`, credited once
CREATE TABLE payment_keys (
  node_id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('invoice', 'address', 'send', 'credit')),
  key text NOT NULL,
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  payment_id uuid NOT NULL,
  -- The node's settle index of a credited invoice: where its subscription is resumed.
  settle_index bigint,
  PRIMARY KEY (key, kind, node_id)
);
CREATE INDEX payment_keys_settle_index ON payment_keys (node_id, settle_index) WHERE settle_index IS NOT NULL;

-- Outputs to our addresses as last seen in the node's wallet, until they are final.
CREATE TABLE chain_outputs (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  payment_id uuid NOT NULL,
  node_id text NOT NULL,
  tx_id text NOT NULL,
  vout integer NOT NULL,
  amount bigint NOT NULL CHECK (amount > 0),
  height integer,
  -- seen: not credited yet; credited; frozen: credited, then gone from the chain; final: too deep to vanish
  state text NOT NULL CHECK (state IN ('seen', 'credited', 'frozen', 'final')),
  first_seen_at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, environment_id, payment_id, tx_id, vout)
);
CREATE INDEX chain_outputs_watched ON chain_outputs (node_id, state) WHERE state IN ('seen', 'credited');

-- On-chain sends: built and signed first, stored here, and only these bytes are ever broadcast.
CREATE TABLE chain_sends (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  payment_id uuid NOT NULL,
  node_id text NOT NULL,
  tx_id text NOT NULL,
  vout integer NOT NULL,
  raw text NOT NULL,
  fee bigint NOT NULL CHECK (fee >= 0),
  created_at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, environment_id, payment_id)
);
CREATE INDEX chain_sends_by_tx ON chain_sends (tx_id);

-- What was last seen of a node: a payment index below this one means that it lost its history.
CREATE TABLE node_state (
  node_id text PRIMARY KEY,
  payment_index bigint NOT NULL DEFAULT 0,
  -- The chain height up to which the node's transactions were read.
  chain_height integer NOT NULL DEFAULT 0
);

-- One row per payment that somebody still has to move. Taken with SKIP LOCKED by a worker that holds
-- the advisory lock of its number; the jobs of a worker whose lock is free are taken again.
CREATE TABLE jobs (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  payment_id uuid NOT NULL,
  node_id text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('generate', 'expire', 'dispatch', 'internal', 'track', 'chain')),
  run_at timestamptz NOT NULL,
  worker integer,
  attempts integer NOT NULL DEFAULT 0,
  PRIMARY KEY (organization_id, environment_id, payment_id)
) WITH (fillfactor = 70);
CREATE INDEX jobs_due ON jobs (run_at) WHERE worker IS NULL;
CREATE INDEX jobs_taken ON jobs (worker) WHERE worker IS NOT NULL;

-- What waits for a human.
CREATE TABLE attention (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  organization_id uuid,
  environment_id uuid,
  payment_id uuid,
  kind text NOT NULL,
  detail jsonb NOT NULL,
  raised_at timestamptz NOT NULL DEFAULT now(),
  resolved_at timestamptz
);
CREATE UNIQUE INDEX attention_open ON attention (kind, organization_id, environment_id, payment_id) NULLS NOT DISTINCT WHERE resolved_at IS NULL;

CREATE TABLE idempotency_keys (
  organization_id uuid NOT NULL,
  api_key_id uuid NOT NULL,
  key text NOT NULL,
  request_hash bytea NOT NULL,
  status integer,
  body text,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (organization_id, api_key_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
