-- What happened, for webhooks and streams: written in the transaction of what it tells. Not a payment's history,
-- which is kept forever; these rows go when they are old (src/webhooks/retention.ts).
CREATE SEQUENCE event_seq AS bigint;
CREATE TABLE events (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  -- Order is (horizon, seq). No transaction that is still under way can add a row whose horizon is below the oldest
  -- transaction under way: readers stop there (docs/decisions/0020).
  horizon bigint NOT NULL,
  -- Without a cache: of two steps of one payment, the later one has the higher number.
  seq bigint NOT NULL DEFAULT nextval('event_seq'),
  payment_id uuid NOT NULL,
  wallet_id uuid NOT NULL,
  type text NOT NULL,
  event text NOT NULL,
  -- The payment's row as the transaction left it.
  payment json NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, environment_id, horizon, seq)
) WITH (toast_tuple_target = 8160);
CREATE INDEX events_in_order ON events (horizon, seq);

CREATE TABLE webhooks (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  id uuid NOT NULL,
  url text NOT NULL,
  name text NOT NULL,
  -- `send.succeeded`, `receive.completed`, …, in the order given.
  events text[] NOT NULL,
  status text NOT NULL CHECK (status IN ('active', 'stopped', 'deleted')),
  -- Sealed with the deployment's secret key (src/core/vault.ts).
  secret text NOT NULL,
  previous_secret text,
  previous_until timestamptz,
  -- The oldest transaction under way when it was made: it gets every event that was committed afterwards.
  since bigint NOT NULL,
  -- When the failures began after which nothing has succeeded.
  failing_since timestamptz,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  stopped_at timestamptz,
  deleted_at timestamptz,
  PRIMARY KEY (organization_id, environment_id, id),
  FOREIGN KEY (organization_id, environment_id) REFERENCES environments
);
CREATE INDEX webhooks_live ON webhooks (organization_id, environment_id) WHERE status <> 'deleted';

-- One event, or one test payload, to one registration.
CREATE TABLE webhook_deliveries (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  id uuid NOT NULL,
  -- The event, or a payload that the client gave.
  horizon bigint,
  seq bigint,
  payload json,
  -- What is sent in order: a payment's events, each after the first attempt of the one before.
  payment_id uuid,
  -- Servers share the shards; a payment's deliveries are all in one.
  shard smallint NOT NULL,
  url text NOT NULL,
  status text NOT NULL CHECK (status IN ('attempting', 'succeeded', 'failed', 'abandoned')),
  run_at timestamptz NOT NULL,
  attempt_count bigint NOT NULL DEFAULT 0,
  -- Attempts since the delivery began, or was begun again by `retry`.
  round_attempts integer NOT NULL DEFAULT 0,
  round_started_at timestamptz NOT NULL,
  error_info jsonb,
  status_code integer,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, environment_id, webhook_id, id),
  FOREIGN KEY (organization_id, environment_id, webhook_id) REFERENCES webhooks,
  CHECK ((payload IS NULL) = (horizon IS NOT NULL AND seq IS NOT NULL))
) WITH (fillfactor = 85);
CREATE INDEX webhook_deliveries_by_created ON webhook_deliveries (organization_id, environment_id, webhook_id, created_at, id);
CREATE INDEX webhook_deliveries_by_updated ON webhook_deliveries (organization_id, environment_id, webhook_id, updated_at, id);
CREATE INDEX webhook_deliveries_open ON webhook_deliveries (organization_id, environment_id, webhook_id, run_at, horizon, seq)
  WHERE status = 'attempting';
-- What did not arrive is little beside what did, and is what somebody looks for.
CREATE INDEX webhook_deliveries_lost ON webhook_deliveries (organization_id, environment_id, webhook_id, created_at, id)
  WHERE status IN ('failed', 'abandoned');

-- Up to where events became deliveries, and up to where events were removed.
CREATE TABLE event_places (
  name text PRIMARY KEY,
  horizon bigint NOT NULL,
  seq bigint NOT NULL
);
INSERT INTO event_places VALUES ('deliveries', 0, 0), ('removed', 0, 0);
