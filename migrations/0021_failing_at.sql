-- The last failure that was noted: the time in which nothing was attempted is no time of failures.
ALTER TABLE webhooks ADD COLUMN failing_at timestamptz;
