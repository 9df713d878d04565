-- Deliveries complete: breakers and holds, who did what to which delivery, a fresh schedule for what is sent again, retention.

-- NULL: emptied because it was older than retention.payloads_days. What became of the delivery stays.
ALTER TABLE deliveries ALTER COLUMN payload DROP NOT NULL;
CREATE INDEX deliveries_endpoint_idx ON deliveries (endpoint, id);

-- `held` says why a row waits for a person. `let_go`: a person sent it off, also through an open breaker. `attempts_before`
-- is how many attempts it had when its schedule began, and `resend_id` the action that began it again.
ALTER TABLE delivery_queue
    ADD COLUMN held            TEXT CONSTRAINT delivery_queue_held_check CHECK (held IN ('operator', 'unreadable', 'payload_gone')),
    ADD COLUMN let_go          BOOLEAN NOT NULL DEFAULT FALSE,
    ADD COLUMN attempts_before INT NOT NULL DEFAULT 0,
    ADD COLUMN resend_id       UUID;
-- A lease takes one step down this index for each endpoint, and never looks at the rows of one that has no room.
CREATE INDEX delivery_queue_endpoint_idx ON delivery_queue (endpoint, due_at) WHERE held IS NULL;
CREATE INDEX delivery_queue_let_go_idx ON delivery_queue (endpoint) WHERE let_go;
DROP INDEX delivery_queue_due_idx;

-- Endpoints that had trouble or are held; a healthy one has no row, and nothing is written for it.
-- `probe_at` is set while the breaker is open: then one delivery at a time, `probe`, is let through.
CREATE TABLE delivery_endpoints (
    endpoint      TEXT CONSTRAINT delivery_endpoints_pk PRIMARY KEY,
    failures      INT NOT NULL DEFAULT 0,
    failing_since TIMESTAMPTZ,
    last_failure  TEXT,
    pause         INTERVAL NOT NULL DEFAULT '0',
    probe_at      TIMESTAMPTZ,
    probe         UUID,
    held_at       TIMESTAMPTZ
);

-- Where each unfinished delivery stands, and what it waits for besides its time.
CREATE VIEW delivery_standing AS
SELECT q.delivery_id, q.kind, q.endpoint, q.due_at, q.attempts, q.lease_token,
       CASE WHEN r.is_running THEN 'running' WHEN h.reason IS NOT NULL THEN 'held' ELSE 'available' END AS state,
       CASE WHEN NOT r.is_running THEN h.reason END AS hold,
       CASE WHEN NOT r.is_running AND h.reason = 'breaker' THEN e.probe_at END AS held_until,
       CASE h.reason WHEN 'breaker' THEN e.failing_since WHEN 'endpoint' THEN e.held_at END AS endpoint_since
FROM delivery_queue q
LEFT JOIN delivery_endpoints e ON e.endpoint = q.endpoint
CROSS JOIN LATERAL (SELECT q.lease_token IS NOT NULL AND q.due_at > now() AS is_running) r
CROSS JOIN LATERAL (SELECT CASE WHEN q.held IS NOT NULL THEN q.held
                                WHEN e.held_at IS NOT NULL THEN 'endpoint'
                                WHEN e.probe_at IS NOT NULL AND NOT q.let_go THEN 'breaker' END AS reason) h;

-- What people did to a delivery or an endpoint. Append-only.
CREATE TABLE delivery_actions (
    id          UUID CONSTRAINT delivery_actions_pk PRIMARY KEY,
    delivery_id UUID,
    endpoint    TEXT,
    action      TEXT NOT NULL CONSTRAINT delivery_actions_action_check CHECK (action IN ('hold', 'release', 'cancel', 'resend')),
    reason      TEXT,
    actor_id    UUID NOT NULL CONSTRAINT delivery_actions_actor_fk REFERENCES users (id),
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT delivery_actions_of_check CHECK ((delivery_id IS NULL) <> (endpoint IS NULL))
);
CREATE INDEX delivery_actions_delivery_idx ON delivery_actions (delivery_id, id) WHERE delivery_id IS NOT NULL;
CREATE INDEX delivery_actions_endpoint_idx ON delivery_actions (endpoint, id) WHERE endpoint IS NOT NULL;

-- How long the attempt itself took; finished_at also holds the wait for its batch.
ALTER TABLE delivery_attempts ADD COLUMN duration_ms INT;
-- Attempts are appended in order of their start, so a summary of each few pages finds those of the last hours.
CREATE INDEX delivery_attempts_started_idx ON delivery_attempts USING brin (started_at) WITH (pages_per_range = 32, autosummarize = on);

-- Lists of what was given up or cancelled.
CREATE INDEX transactions_failed_idx ON transactions (delivery_id) WHERE transaction_type = 'DeliveryFailed';
