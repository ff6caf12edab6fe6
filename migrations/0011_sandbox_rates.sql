-- The rate that an environment of the sandbox holds still; without a row it walks by itself.
CREATE TABLE sandbox_rates (
  organization_id uuid NOT NULL,
  environment_id uuid NOT NULL,
  rate text NOT NULL,
  set_at timestamptz NOT NULL,
  PRIMARY KEY (organization_id, environment_id),
  FOREIGN KEY (organization_id, environment_id) REFERENCES environments
);
-- Quotes that nobody used are removed some time after they ended.
CREATE INDEX quotes_unused ON quotes (requested_at) WHERE consumed_at IS NULL;
