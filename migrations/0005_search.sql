-- What searches need: the words of subjects and messages, parts of subjects, tickets by their age.

-- Parts of a subject are found by its runs of three letters. The extension comes with PostgreSQL's contributed modules, and
-- whoever may create in the database may create it.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') THEN
        RAISE EXCEPTION 'PostgreSQL''s extension pg_trgm is not installed on the database server: install the package postgresql-contrib there (its contributed modules), and start again';
    END IF;
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE EXCEPTION 'Tessera''s user may not create PostgreSQL''s extension pg_trgm: have an administrator run CREATE EXTENSION pg_trgm in this database, and start again';
END
$$;

-- The words are made by Tessera (query::words) and stored as they are. NULL: a row of an older program, which is not found
-- by its words until a server fills it in (db::words): at its start, and every hour. So a first start after this migration is
-- soon ready, and a program of before goes on beside it.
ALTER TABLE transaction_contents ADD COLUMN ticket_id UUID, ADD COLUMN words TSVECTOR;
UPDATE transaction_contents c SET ticket_id = h.ticket_id FROM transactions h WHERE h.id = c.transaction_id;
CREATE INDEX transaction_contents_words_idx ON transaction_contents USING gin (words);
CREATE INDEX transaction_contents_ticket_idx ON transaction_contents (ticket_id);
CREATE INDEX transaction_contents_wordless_idx ON transaction_contents (transaction_id) WHERE words IS NULL;

-- An update that leaves the subject alone changes nothing that these hold, so it stays on its page.
ALTER TABLE tickets ADD COLUMN subject_words TSVECTOR;
CREATE INDEX tickets_created_idx ON tickets (created_at);
CREATE INDEX tickets_wordless_idx ON tickets (id) WHERE subject_words IS NULL;
CREATE INDEX tickets_subject_words_idx ON tickets USING gin (subject_words);
CREATE INDEX tickets_subject_trigrams_idx ON tickets USING gin (subject_folded gin_trgm_ops);

-- Who changed tickets: for UpdatedBy.
CREATE INDEX transactions_creator_idx ON transactions (creator_id, ticket_id, created_at);
-- PostgreSQL does not look at the statistics of an index over a part of a table, and guesses thousands where there are ten.
CREATE STATISTICS ticket_watchers_address ON (lower(address)) FROM ticket_watchers;
