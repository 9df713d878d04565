-- Imports: which ticket came of which line, so that a file can be imported again, after a kill too, and makes no ticket twice.

-- `key` is the number that the line gives, in 8 bytes, else the SHA-256 of the file's name, the line's number and the line;
-- `line` the first 16 bytes of the SHA-256 of the line, which tell whether a number comes again with other words.
CREATE TABLE imports (
    key        BYTEA CONSTRAINT imports_pk PRIMARY KEY,
    line       BYTEA NOT NULL,
    ticket_id  UUID NOT NULL CONSTRAINT imports_ticket_fk REFERENCES tickets (id),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
