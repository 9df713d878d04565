-- Versions of templates and lifecycles say all that the object said, so that a version can be compared and restored whole.
-- Of earlier versions of a template it is not known in which queue they were: the template's own queue is taken.

ALTER TABLE template_versions
    ADD COLUMN queue_id UUID CONSTRAINT template_versions_queue_fk REFERENCES queues (id),
    ADD COLUMN disabled BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE template_versions v
SET queue_id = t.queue_id, disabled = t.disabled AND t.version_id = v.id
FROM templates t
WHERE t.id = v.template_id;

ALTER TABLE lifecycle_versions ADD COLUMN disabled BOOLEAN NOT NULL DEFAULT FALSE;
