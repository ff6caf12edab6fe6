-- The time that the last deliveries were given: those after them never get an earlier one, whatever the clock says.
ALTER TABLE event_places ADD COLUMN at timestamptz;
