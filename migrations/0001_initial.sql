-- Tessera's tables. Every constraint and index is named: names are translated into errors.
-- Ids are UUIDv7 made by Tessera; the DEFAULTs are a fallback for rows made by hand.

-- Configuration -----------------------------------------------------------------------------------------------------

-- One row. Every change of configuration raises `version` in its own database transaction; every write of a plan
-- names the version that it was prepared against.
CREATE TABLE config_version (
    one     BOOLEAN NOT NULL DEFAULT TRUE CONSTRAINT config_version_pk PRIMARY KEY CONSTRAINT config_version_one CHECK (one),
    version BIGINT  NOT NULL,
    access  BIGINT  NOT NULL
);
INSERT INTO config_version (version, access) VALUES (0, 0);

-- `changed_in` is the configuration version that last changed a row: a reload reads only rows newer than itself.
CREATE TABLE users (
    id          UUID CONSTRAINT users_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    username    TEXT NOT NULL,
    email       TEXT,
    name        TEXT,
    privileged  BOOLEAN NOT NULL DEFAULT FALSE,
    disabled    BOOLEAN NOT NULL DEFAULT FALSE,
    merged_into UUID CONSTRAINT users_merged_into_fk REFERENCES users (id),
    changed_in  BIGINT NOT NULL DEFAULT 0,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_username_key ON users (lower(username));
CREATE UNIQUE INDEX users_email_key ON users (lower(email)) WHERE email IS NOT NULL;

CREATE TABLE lifecycles (
    id         UUID CONSTRAINT lifecycles_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    name       TEXT NOT NULL,
    version    INT NOT NULL,
    version_id UUID NOT NULL,
    definition JSONB NOT NULL,
    disabled   BOOLEAN NOT NULL DEFAULT FALSE,
    changed_in BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX lifecycles_name_key ON lifecycles (lower(name));

CREATE TABLE lifecycle_versions (
    id           UUID CONSTRAINT lifecycle_versions_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    lifecycle_id UUID NOT NULL CONSTRAINT lifecycle_versions_lifecycle_fk REFERENCES lifecycles (id),
    version      INT NOT NULL,
    name         TEXT NOT NULL,
    definition   JSONB NOT NULL,
    creator_id   UUID NOT NULL CONSTRAINT lifecycle_versions_creator_fk REFERENCES users (id),
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT lifecycle_versions_version_key UNIQUE (lifecycle_id, version)
);

CREATE TABLE queues (
    id                 UUID CONSTRAINT queues_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    name               TEXT NOT NULL,
    description        TEXT,
    lifecycle_id       UUID NOT NULL CONSTRAINT queues_lifecycle_fk REFERENCES lifecycles (id),
    correspond_address TEXT,
    comment_address    TEXT,
    disabled           BOOLEAN NOT NULL DEFAULT FALSE,
    changed_in         BIGINT NOT NULL,
    created_at         TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX queues_name_key ON queues (lower(name));

CREATE TABLE queue_watchers (
    id       UUID CONSTRAINT queue_watchers_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    queue_id UUID NOT NULL CONSTRAINT queue_watchers_queue_fk REFERENCES queues (id) ON DELETE CASCADE,
    role     TEXT NOT NULL CONSTRAINT queue_watchers_role_check CHECK (role IN ('cc', 'admin_cc')),
    user_id  UUID CONSTRAINT queue_watchers_user_fk REFERENCES users (id),
    address  TEXT,
    CONSTRAINT queue_watchers_who_check CHECK ((user_id IS NULL) <> (address IS NULL)),
    CONSTRAINT queue_watchers_key UNIQUE NULLS NOT DISTINCT (queue_id, role, user_id, address)
);

CREATE TABLE custom_fields (
    id         UUID CONSTRAINT custom_fields_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    name       TEXT NOT NULL,
    field_type TEXT NOT NULL CONSTRAINT custom_fields_type_check CHECK (field_type IN ('Freeform', 'SelectSingle', 'SelectMulti')),
    values     JSONB,
    max_values INT NOT NULL DEFAULT 1 CONSTRAINT custom_fields_max_values_check CHECK (max_values >= 0),
    pattern    TEXT,
    disabled   BOOLEAN NOT NULL DEFAULT FALSE,
    changed_in BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX custom_fields_name_key ON custom_fields (lower(name));

-- queue_id NULL attaches a field to every queue.
CREATE TABLE queue_custom_fields (
    id              UUID CONSTRAINT queue_custom_fields_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    queue_id        UUID CONSTRAINT queue_custom_fields_queue_fk REFERENCES queues (id) ON DELETE CASCADE,
    custom_field_id UUID NOT NULL CONSTRAINT queue_custom_fields_field_fk REFERENCES custom_fields (id) ON DELETE CASCADE,
    sort_order      INT NOT NULL DEFAULT 0,
    CONSTRAINT queue_custom_fields_key UNIQUE NULLS NOT DISTINCT (queue_id, custom_field_id)
);

-- queue_id NULL is a global template; one of the same name in the ticket's queue wins over it.
CREATE TABLE templates (
    id               UUID CONSTRAINT templates_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    name             TEXT NOT NULL,
    queue_id         UUID CONSTRAINT templates_queue_fk REFERENCES queues (id),
    version          INT NOT NULL,
    version_id       UUID NOT NULL,
    subject_template TEXT NOT NULL,
    body_template    TEXT NOT NULL,
    content_type     TEXT NOT NULL CONSTRAINT templates_content_type_check CHECK (content_type IN ('text', 'html')),
    headers          JSONB NOT NULL DEFAULT '{}',
    disabled         BOOLEAN NOT NULL DEFAULT FALSE,
    changed_in       BIGINT NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT templates_name_key UNIQUE NULLS NOT DISTINCT (name, queue_id)
);

CREATE TABLE template_versions (
    id               UUID CONSTRAINT template_versions_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    template_id      UUID NOT NULL CONSTRAINT template_versions_template_fk REFERENCES templates (id),
    version          INT NOT NULL,
    name             TEXT NOT NULL,
    subject_template TEXT NOT NULL,
    body_template    TEXT NOT NULL,
    content_type     TEXT NOT NULL,
    headers          JSONB NOT NULL,
    creator_id       UUID NOT NULL CONSTRAINT template_versions_creator_fk REFERENCES users (id),
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT template_versions_version_key UNIQUE (template_id, version)
);

CREATE TABLE scrips (
    id               UUID CONSTRAINT scrips_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    name             TEXT NOT NULL,
    description      TEXT,
    condition_type   TEXT NOT NULL,
    condition_config JSONB NOT NULL DEFAULT '{}',
    applicable_types TEXT[],
    action_type      TEXT NOT NULL,
    action_config    JSONB NOT NULL DEFAULT '{}',
    template         TEXT,
    state            TEXT NOT NULL CONSTRAINT scrips_state_check CHECK (state IN ('enabled', 'disabled', 'shadow')),
    version          INT NOT NULL,
    version_id       UUID NOT NULL,
    changed_in       BIGINT NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX scrips_name_key ON scrips (lower(name));

-- queue_id NULL attaches a scrip to every queue.
CREATE TABLE scrip_queues (
    id         UUID CONSTRAINT scrip_queues_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    scrip_id   UUID NOT NULL CONSTRAINT scrip_queues_scrip_fk REFERENCES scrips (id) ON DELETE CASCADE,
    queue_id   UUID CONSTRAINT scrip_queues_queue_fk REFERENCES queues (id),
    stage      TEXT NOT NULL CONSTRAINT scrip_queues_stage_check CHECK (stage IN ('TransactionCreate', 'TransactionBatch')),
    sort_order INT NOT NULL DEFAULT 0,
    CONSTRAINT scrip_queues_key UNIQUE NULLS NOT DISTINCT (scrip_id, queue_id)
);

-- `snapshot` is the scrip as the API shows it, attachments included.
CREATE TABLE scrip_versions (
    id         UUID CONSTRAINT scrip_versions_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    scrip_id   UUID NOT NULL CONSTRAINT scrip_versions_scrip_fk REFERENCES scrips (id),
    version    INT NOT NULL,
    snapshot   JSONB NOT NULL,
    creator_id UUID NOT NULL CONSTRAINT scrip_versions_creator_fk REFERENCES users (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT scrip_versions_version_key UNIQUE (scrip_id, version)
);

-- Read by the transport alone.
CREATE TABLE secrets (
    name       TEXT CONSTRAINT secrets_pk PRIMARY KEY,
    value      TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Tickets -----------------------------------------------------------------------------------------------------------

CREATE SEQUENCE ticket_number AS BIGINT;

-- Whoever writes a row raises `version` in the same statement. No index holds `status` or `updated_at`, so that
-- nearly every update stays on its page (HOT).
CREATE TABLE tickets (
    id             UUID CONSTRAINT tickets_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    number         BIGINT NOT NULL DEFAULT nextval('ticket_number') CONSTRAINT tickets_number_key UNIQUE,
    version        BIGINT NOT NULL,
    subject        TEXT NOT NULL,
    subject_folded TEXT COLLATE "C" NOT NULL,
    queue_id       UUID NOT NULL CONSTRAINT tickets_queue_fk REFERENCES queues (id),
    status         TEXT NOT NULL,
    status_class   "char" NOT NULL CONSTRAINT tickets_status_class_check CHECK (status_class IN ('i', 'a', 'x')),
    priority       INT NOT NULL DEFAULT 0,
    owner_id       UUID CONSTRAINT tickets_owner_fk REFERENCES users (id),
    creator_id     UUID NOT NULL CONSTRAINT tickets_creator_fk REFERENCES users (id),
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    started_at     TIMESTAMPTZ,
    resolved_at    TIMESTAMPTZ,
    due_at         TIMESTAMPTZ,
    told_at        TIMESTAMPTZ
) WITH (fillfactor = 85);
CREATE INDEX tickets_queue_class_idx ON tickets (queue_id, status_class, id);
CREATE INDEX tickets_owner_idx ON tickets (owner_id, id) WHERE owner_id IS NOT NULL;

CREATE TABLE ticket_watchers (
    id        UUID CONSTRAINT ticket_watchers_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    ticket_id UUID NOT NULL CONSTRAINT ticket_watchers_ticket_fk REFERENCES tickets (id),
    role      TEXT NOT NULL CONSTRAINT ticket_watchers_role_check CHECK (role IN ('requestor', 'cc', 'admin_cc')),
    user_id   UUID CONSTRAINT ticket_watchers_user_fk REFERENCES users (id),
    address   TEXT,
    CONSTRAINT ticket_watchers_who_check CHECK ((user_id IS NULL) <> (address IS NULL)),
    CONSTRAINT ticket_watchers_key UNIQUE NULLS NOT DISTINCT (ticket_id, role, user_id, address)
);
CREATE INDEX ticket_watchers_user_idx ON ticket_watchers (user_id, role, ticket_id) WHERE user_id IS NOT NULL;
CREATE INDEX ticket_watchers_address_idx ON ticket_watchers (lower(address), role, ticket_id) WHERE address IS NOT NULL;

CREATE TABLE custom_field_values (
    id              UUID CONSTRAINT custom_field_values_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    custom_field_id UUID NOT NULL CONSTRAINT custom_field_values_field_fk REFERENCES custom_fields (id),
    ticket_id       UUID NOT NULL CONSTRAINT custom_field_values_ticket_fk REFERENCES tickets (id),
    value           TEXT NOT NULL,
    value_folded    TEXT COLLATE "C" NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT custom_field_values_key UNIQUE (ticket_id, custom_field_id, value)
);
CREATE INDEX custom_field_values_folded_idx ON custom_field_values (custom_field_id, value_folded, ticket_id);

-- Who asked for what, when; narrow.
CREATE TABLE requests (
    id             UUID CONSTRAINT requests_pk PRIMARY KEY,
    ticket_id      UUID NOT NULL CONSTRAINT requests_ticket_fk REFERENCES tickets (id),
    actor_id       UUID NOT NULL CONSTRAINT requests_actor_fk REFERENCES users (id),
    channel        TEXT NOT NULL,
    plan_hash      BYTEA NOT NULL,
    config_version BIGINT NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL
);

-- Why scrips did what they did. Partitioned by month on the UUIDv7, so that old months are dropped, not deleted.
CREATE TABLE request_traces (
    request_id  UUID NOT NULL,
    evaluations JSONB NOT NULL,
    CONSTRAINT request_traces_pk PRIMARY KEY (request_id)
) PARTITION BY RANGE (request_id);
CREATE TABLE request_traces_default PARTITION OF request_traces DEFAULT;

-- caused_by, request_id and scrip_version_id have no foreign keys: the plan that makes the row makes what they name,
-- and `tessera check` proves it (docs/adr/0003).
CREATE TABLE transactions (
    id               UUID CONSTRAINT transactions_pk PRIMARY KEY DEFAULT gen_random_uuid(),
    ticket_id        UUID NOT NULL CONSTRAINT transactions_ticket_fk REFERENCES tickets (id),
    seq              BIGINT,
    request_id       UUID NOT NULL,
    batch_seq        INT NOT NULL,
    transaction_type TEXT NOT NULL,
    field            TEXT,
    old_value        TEXT,
    new_value        TEXT,
    data             JSONB NOT NULL,
    creator_id       UUID NOT NULL,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    caused_by        UUID,
    scrip_version_id UUID,
    derived          BOOLEAN NOT NULL DEFAULT FALSE,
    delivery_id      UUID,
    CONSTRAINT transactions_seq_key UNIQUE (ticket_id, seq),
    CONSTRAINT transactions_outcome_check CHECK ((seq IS NULL) = (delivery_id IS NOT NULL))
);
CREATE INDEX transactions_ticket_idx ON transactions (ticket_id, created_at, id);
CREATE UNIQUE INDEX transactions_outcome_key ON transactions (delivery_id, transaction_type) WHERE delivery_id IS NOT NULL;

CREATE TABLE transaction_contents (
    transaction_id UUID CONSTRAINT transaction_contents_pk PRIMARY KEY,
    content_type   TEXT NOT NULL,
    body           TEXT NOT NULL
);

-- Only 2xx answers are kept, byte for byte.
CREATE TABLE idempotency_keys (
    actor_id   UUID NOT NULL,
    key        TEXT NOT NULL,
    body_hash  BYTEA NOT NULL,
    request_id UUID NOT NULL,
    status     INT NOT NULL,
    response   BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    CONSTRAINT idempotency_keys_pk PRIMARY KEY (actor_id, key)
);
CREATE INDEX idempotency_keys_age_idx ON idempotency_keys (created_at);

-- Deliveries --------------------------------------------------------------------------------------------------------

-- What leaves, as it will leave; immutable. A webhook's body is kept as bytes and never re-serialised.
CREATE TABLE deliveries (
    id               UUID CONSTRAINT deliveries_pk PRIMARY KEY,
    transaction_id   UUID NOT NULL,
    ticket_id        UUID NOT NULL,
    scrip_version_id UUID NOT NULL,
    kind             TEXT NOT NULL,
    endpoint         TEXT NOT NULL,
    payload          JSONB NOT NULL,
    body             BYTEA,
    created_at       TIMESTAMPTZ NOT NULL
);
CREATE INDEX deliveries_ticket_idx ON deliveries (ticket_id, id);

-- One narrow row while a delivery is unfinished.
CREATE TABLE delivery_queue (
    delivery_id UUID CONSTRAINT delivery_queue_pk PRIMARY KEY,
    kind        TEXT NOT NULL,
    endpoint    TEXT NOT NULL,
    due_at      TIMESTAMPTZ NOT NULL,
    attempts    INT NOT NULL DEFAULT 0,
    lease_token BIGINT
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX delivery_queue_due_idx ON delivery_queue (due_at);
CREATE SEQUENCE delivery_lease AS BIGINT;

-- Every lease that was ever issued, and what came of it. Append-only but for the one settling of each row.
-- `recipients` is what is known of each recipient of a mail after the attempt.
CREATE TABLE delivery_attempts (
    delivery_id UUID NOT NULL,
    lease_token BIGINT NOT NULL,
    attempt     INT NOT NULL,
    started_at  TIMESTAMPTZ NOT NULL,
    finished_at TIMESTAMPTZ,
    outcome     TEXT,
    status_code INT,
    detail      TEXT,
    response    BYTEA,
    recipients  JSONB,
    CONSTRAINT delivery_attempts_pk PRIMARY KEY (delivery_id, lease_token)
) PARTITION BY RANGE (delivery_id);
CREATE TABLE delivery_attempts_default PARTITION OF delivery_attempts DEFAULT;
