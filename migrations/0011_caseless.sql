-- Texts are compared by Unicode's full case folding (models::text::caseless). Rows that an older program folded by its own rule are
-- updated by a server in the background (db::refold), in the order of their ids: `after` is the last id that it looked at. A row
-- of this table is deleted when its table is done.

CREATE TABLE refolds (
    table_name TEXT CONSTRAINT refolds_pk PRIMARY KEY,
    after      UUID NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    started_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
INSERT INTO refolds (table_name) VALUES ('tickets'), ('custom_field_values'), ('transaction_contents');
