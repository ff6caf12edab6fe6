-- Who answered for a node the last time, and how often it has come back without its payment history.
ALTER TABLE node_state
  ADD identity text,
  ADD chain text,
  ADD history_epoch integer NOT NULL DEFAULT 0;

-- What was known of the node when a send was handed to it: a payment of the node with an index up to this one
-- is an older one of the same hash, and a history that was lost since then cannot tell what became of the send.
ALTER TABLE payments
  ADD node_index bigint,
  ADD node_epoch integer;
