-- Leases that were given back, and lists of what was cancelled.

-- When the holder gave the lease back: its attempt never began or was interrupted, so it does not count and is not shown.
-- The row stays, because a success may still be reported for it, and a repeated report must be recognized.
ALTER TABLE delivery_attempts ADD COLUMN given_back_at TIMESTAMPTZ;

-- How often in a row connectors have returned the delivery without attempting it; each time it is due later.
ALTER TABLE delivery_queue ADD COLUMN returns INT NOT NULL DEFAULT 0;

-- A list of cancelled deliveries reads these instead of all that failed.
CREATE INDEX delivery_actions_cancel_idx ON delivery_actions (delivery_id) WHERE action = 'cancel';
