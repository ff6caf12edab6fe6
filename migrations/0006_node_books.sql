-- What moved a node's worth beside the payments of its users, each once: its worth when it was registered, wallet
-- transactions, channels opened and closed, forwarding fees. The operator's own organization holds the entries.
CREATE TABLE node_bookings (
  node_id text NOT NULL,
  key text NOT NULL,
  channels_msats bigint NOT NULL,
  chain_msats bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (node_id, key)
);

ALTER TABLE node_state
  -- Wallet transactions up to here are booked; null: the node is not registered yet.
  ADD books_height integer,
  ADD forward_index integer NOT NULL DEFAULT 0,
  -- Channels closed since node and ledger agreed last: each may have left a remainder below a sat.
  ADD unrounded_closes integer NOT NULL DEFAULT 0;
