-- Builds of the app that the operator publishes; their bytes are files like any other.
CREATE TABLE releases (
  id            TEXT PRIMARY KEY,
  version       TEXT NOT NULL,
  platform      TEXT NOT NULL,
  abi           TEXT NOT NULL,
  file_id       TEXT NOT NULL,
  size          INTEGER NOT NULL,
  sha256        BLOB NOT NULL,
  notes         TEXT NOT NULL,
  mandatory     INTEGER NOT NULL,
  share         INTEGER NOT NULL,  -- percent of those who ask
  published_at  INTEGER NOT NULL,
  withdrawn_at  INTEGER,
  changed       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX releases_version ON releases (platform, abi, version) WHERE withdrawn_at IS NULL;
CREATE INDEX releases_changed ON releases (changed);
