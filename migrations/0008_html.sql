-- Messages of HTML: `body` is their text, `html` is what was sent. NULL: a message of plain text, or of HTML from an older program,
-- whose `body` is the HTML itself (content_type says text/html); its text is made when it is read.
ALTER TABLE transaction_contents ADD COLUMN html TEXT;
