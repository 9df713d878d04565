-- The time at which something was done to a row is that at which the row was locked, not that at which the wait for it began.
ALTER TABLE delivery_actions ALTER COLUMN created_at SET DEFAULT clock_timestamp();

-- `unrecorded`: what came of an attempt cannot be stored, so that it is not made again and again.
ALTER TABLE delivery_queue
    DROP CONSTRAINT delivery_queue_held_check,
    ADD CONSTRAINT delivery_queue_held_check CHECK (held IN ('operator', 'unreadable', 'payload_gone', 'unrecorded'));
