-- How often events were counted anew (src/webhooks/restore.ts): a place from before means nothing afterwards.
ALTER TABLE event_places ADD COLUMN epoch integer NOT NULL DEFAULT 0;
