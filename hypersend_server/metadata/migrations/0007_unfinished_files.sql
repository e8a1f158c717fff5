-- Uploads that have ended and whose bytes may still be there are looked for every minute.
CREATE INDEX files_unfinished ON files (state) WHERE completed_at IS NULL;
