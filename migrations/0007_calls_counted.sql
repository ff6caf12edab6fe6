-- How often a send was handed to its node. A server that sees a new number counts the time anew in which that call,
-- whoever made it, could still reach the node (src/payments/calls.ts).
ALTER TABLE payments ADD calls integer NOT NULL DEFAULT 0;
