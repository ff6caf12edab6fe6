-- A change of a line is copied to the accounts of its wallets. Neither column of a wallet ever changes,
-- so posting a balance stays a heap-only update.
CREATE INDEX accounts_of_line ON accounts (organization_id, line_of_credit_id) WHERE kind = 'wallet';
CREATE INDEX lines_of_environment ON lines_of_credit (organization_id, environment_id, created_at, id);
-- A node's accounts over all organizations: what it should be worth by the ledger.
CREATE INDEX accounts_by_node ON accounts (node_id, kind) WHERE kind <> 'wallet';
