-- Payments that are generated or sent right now are few among a million: lists by those states start here.
CREATE INDEX jobs_moving ON jobs (organization_id, environment_id, payment_id) WHERE kind <> 'expire';
