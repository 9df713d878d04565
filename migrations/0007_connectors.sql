-- Connectors: programs that deliver what the binary does not, and through which things come in.

-- What knows of a token is its SHA-256. A connector that is revoked keeps its row, for the attempts that name it.
CREATE TABLE connectors (
    id           UUID CONSTRAINT connectors_pk PRIMARY KEY,
    name         TEXT NOT NULL,
    kinds        TEXT[] NOT NULL,
    token_hash   BYTEA NOT NULL CONSTRAINT connectors_token_key UNIQUE,
    user_id      UUID CONSTRAINT connectors_user_fk REFERENCES users (id),
    software     TEXT,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_seen_at TIMESTAMPTZ,
    revoked_at   TIMESTAMPTZ
);
CREATE UNIQUE INDEX connectors_name_key ON connectors (name) WHERE revoked_at IS NULL;

-- The kinds that scrips may name. `announced_at` is when a connector first said that it delivers the kind.
CREATE TABLE delivery_kinds (
    kind         TEXT CONSTRAINT delivery_kinds_pk PRIMARY KEY,
    schema       JSONB,
    announced_at TIMESTAMPTZ
);

-- Who made the attempt: NULL is a worker in the binary.
ALTER TABLE delivery_attempts ADD COLUMN connector_id UUID;

-- Where each unfinished delivery stands, and what it waits for besides its time. New: a connector that was never there.
CREATE OR REPLACE VIEW delivery_standing AS
SELECT q.delivery_id, q.kind, q.endpoint, q.due_at, q.attempts, q.lease_token,
       CASE WHEN r.is_running THEN 'running' WHEN h.reason IS NOT NULL THEN 'held' ELSE 'available' END AS state,
       CASE WHEN NOT r.is_running THEN h.reason END AS hold,
       CASE WHEN NOT r.is_running AND h.reason = 'breaker' THEN e.probe_at END AS held_until,
       CASE h.reason WHEN 'breaker' THEN e.failing_since WHEN 'endpoint' THEN e.held_at END AS endpoint_since
FROM delivery_queue q
LEFT JOIN delivery_endpoints e ON e.endpoint = q.endpoint
LEFT JOIN delivery_kinds k ON k.kind = q.kind
CROSS JOIN LATERAL (SELECT q.lease_token IS NOT NULL AND q.due_at > now() AS is_running) r
CROSS JOIN LATERAL (SELECT CASE WHEN q.held IS NOT NULL THEN q.held
                                WHEN e.held_at IS NOT NULL THEN 'endpoint'
                                WHEN k.kind IS NOT NULL AND k.announced_at IS NULL THEN 'no_connector'
                                WHEN e.probe_at IS NOT NULL AND NOT q.let_go THEN 'breaker' END AS reason) h;
