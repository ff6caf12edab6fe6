-- US dollars: quotes that lock a rate, the operator's exchange accounts, processing fees, what a wallet may do.

-- exchange: the operator's position in each currency; suspense: money that came in and could not be exchanged yet.
ALTER TABLE accounts DROP CONSTRAINT accounts_kind_check;
ALTER TABLE accounts
  ADD CONSTRAINT accounts_kind_check CHECK (kind IN ('wallet', 'channels', 'chain', 'network_fees', 'processing_fees',
    'capital', 'loss', 'frozen', 'exchange', 'suspense')),
  -- Processing fees in basis points: the line's, and the wallet's own where its policy overrides them. Copied here
  -- in the transaction that changes them, so that a payment looks at nothing but the account it has locked.
  ADD line_send_bps integer NOT NULL DEFAULT 0 CHECK (line_send_bps BETWEEN 0 AND 10000),
  ADD line_receive_bps integer NOT NULL DEFAULT 0 CHECK (line_receive_bps BETWEEN 0 AND 10000),
  ADD own_send_bps integer CHECK (own_send_bps BETWEEN 0 AND 10000),
  ADD own_receive_bps integer CHECK (own_receive_bps BETWEEN 0 AND 10000),
  -- The wallet's policies, copied likewise; null where there is none. Amounts in msats.
  ADD max_payment bigint CHECK (max_payment > 0),
  ADD sends_per_minute bigint CHECK (sends_per_minute > 0),
  ADD send_volume bigint CHECK (send_volume > 0),
  ADD ofac_compliant boolean NOT NULL DEFAULT false;

ALTER TABLE lines_of_credit
  ADD send_bps integer NOT NULL DEFAULT 0 CHECK (send_bps BETWEEN 0 AND 10000),
  ADD receive_bps integer NOT NULL DEFAULT 0 CHECK (receive_bps BETWEEN 0 AND 10000),
  -- How much worse than the market a quote on this line is, either way.
  ADD spread_bps integer NOT NULL DEFAULT 0 CHECK (spread_bps BETWEEN 0 AND 5000);

CREATE TABLE quotes (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  line_of_credit_id uuid NOT NULL,
  network text NOT NULL,
  from_currency text NOT NULL CHECK (from_currency IN ('btc', 'usd')),
  to_currency text NOT NULL CHECK (to_currency IN ('btc', 'usd') AND to_currency <> from_currency),
  -- In base units of from_currency.
  amount bigint NOT NULL CHECK (amount > 0),
  -- As the client gave it; null: sats or cents.
  target_precision text CHECK (target_precision IN ('sats', 'msats', 'cents')),
  requested_at timestamptz NOT NULL,
  -- `<coefficient>e<scale>`, cents per BTC, spread included; null when the quote failed.
  rate text,
  quoted_at timestamptz,
  created_at timestamptz,
  expires_at timestamptz,
  failed_at timestamptz,
  error jsonb,
  -- The payment that used it, and that payment's wallet: a quote serves once.
  consumed_at timestamptz,
  payment_id uuid,
  wallet_id uuid,
  PRIMARY KEY (organization_id, environment_id, id),
  FOREIGN KEY (organization_id, line_of_credit_id) REFERENCES lines_of_credit,
  CONSTRAINT quoted_or_failed CHECK ((rate IS NULL) = (failed_at IS NOT NULL)
    AND (rate IS NULL) = (expires_at IS NULL) AND (rate IS NULL) = (created_at IS NULL)),
  CONSTRAINT consumed_by_one CHECK ((consumed_at IS NULL) = (payment_id IS NULL)
    AND (consumed_at IS NULL) = (wallet_id IS NULL) AND (consumed_at IS NULL OR failed_at IS NULL))
) WITH (fillfactor = 80);
-- The network is read with it: a page or a count of one network stays in the index.
CREATE INDEX quotes_by_time ON quotes (organization_id, environment_id, requested_at, id) INCLUDE (network);
CREATE INDEX quotes_of_wallet ON quotes (organization_id, wallet_id, requested_at, id) WHERE wallet_id IS NOT NULL;

-- Rail amounts (amount, max_fee, network_fee, payable, received, suspended) are msats whatever the wallet's currency;
-- credited, gross, requested and hold_amount are in the wallet's currency.
ALTER TABLE payments
  ADD quote_id uuid,
  -- The market quote that was locked: from, to, rate, quoted_at, expires_at.
  ADD quote jsonb,
  -- What was exchanged, one entry per movement of the ledger.
  ADD exchanges jsonb NOT NULL DEFAULT '[]',
  -- The processing fee's rate, frozen; processing_fee is its amount on the principal as requested.
  ADD fee_bps integer NOT NULL DEFAULT 0 CHECK (fee_bps BETWEEN 0 AND 10000),
  -- What the payer of a fixed receive pays on the rail, fee included.
  ADD payable bigint CHECK (payable >= 0),
  -- What came in on the rail, and how much of it waits in suspense.
  ADD received bigint NOT NULL DEFAULT 0 CHECK (received >= 0),
  ADD suspended bigint NOT NULL DEFAULT 0 CHECK (suspended >= 0 AND suspended <= received),
  -- What a receive settled so far, fee included: credited is the part without it.
  ADD gross bigint NOT NULL DEFAULT 0 CHECK (gross >= 0),
  -- The principal of a quoted receive as the client gave it.
  ADD requested bigint CHECK (requested >= 0),
  -- What a send holds.
  ADD hold_amount bigint CHECK (hold_amount >= 0);
UPDATE payments SET payable = amount, received = credited, gross = credited WHERE direction = 'receive';
UPDATE payments SET hold_amount = amount + max_fee + processing_fee WHERE hold_id IS NOT NULL;
ALTER TABLE payments ADD CONSTRAINT credited_within_gross CHECK (gross >= credited);

-- Money that waits in suspense is exchanged when there is a rate.
ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check;
ALTER TABLE jobs ADD CONSTRAINT jobs_kind_check
  CHECK (kind IN ('generate', 'expire', 'dispatch', 'internal', 'track', 'chain', 'exchange'));

-- The operator's own accounts over all organizations: its position.
CREATE INDEX accounts_of_operator ON accounts (kind, currency) WHERE kind IN ('exchange', 'processing_fees', 'suspense');
