-- Times are Unix milliseconds, sizes bytes, digests 32 raw bytes, flags 0 or 1.
-- `changed` is the number of the change in the whole database (meta 'change'): /sync reads by it.

CREATE TABLE meta (
  key    TEXT PRIMARY KEY,          -- change, server_id, epoch, search_changed
  value  ANY
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('change', 0);

CREATE TABLE users (
  id             TEXT PRIMARY KEY,
  email          TEXT,              -- as typed; NULL once the account is deleted
  email_key      TEXT UNIQUE,       -- without case
  username       TEXT UNIQUE,       -- lower case; NULL once deleted
  display_name   TEXT NOT NULL,
  name_key       TEXT NOT NULL,     -- display_name folded for search by prefix
  about          TEXT NOT NULL DEFAULT '',
  password_hash  TEXT NOT NULL,
  is_admin       INTEGER NOT NULL DEFAULT 0,
  disabled       INTEGER NOT NULL DEFAULT 0,
  quota_bytes    INTEGER,           -- NULL: the server's default
  avatar_id      TEXT,              -- pictures.id
  created_at     INTEGER NOT NULL,
  last_seen_at   INTEGER,
  deleted_at     INTEGER,
  changed        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX users_changed ON users (changed);
CREATE INDEX users_name ON users (name_key) WHERE deleted_at IS NULL;

-- Avatars and previews, re-encoded by the server, so small.
CREATE TABLE pictures (
  id        TEXT PRIMARY KEY,
  mime      TEXT NOT NULL,
  data      BLOB NOT NULL
) STRICT;

CREATE TABLE sessions (
  id             TEXT PRIMARY KEY,
  user_id        TEXT NOT NULL,
  device         TEXT NOT NULL DEFAULT '',
  ip             TEXT NOT NULL DEFAULT '',
  salt           BLOB NOT NULL,     -- of the refresh tokens: token = HMAC(server key, id, salt, generation)
  generation     INTEGER NOT NULL,  -- of the newest pair given out
  rotated_at     INTEGER NOT NULL,  -- when that pair was made
  used_at        INTEGER,           -- when that pair was first used
  device_key     TEXT,              -- X25519 public key, base64url
  created_at     INTEGER NOT NULL,
  last_seen_at   INTEGER NOT NULL,
  ended_at       INTEGER,
  changed        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_changed ON sessions (changed);

CREATE TABLE blocks (
  user_id     TEXT NOT NULL,        -- who blocks
  blocked_id  TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (user_id, blocked_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX blocks_reverse ON blocks (blocked_id);

CREATE TABLE invites (
  id          TEXT PRIMARY KEY,
  code_hash   BLOB NOT NULL UNIQUE, -- SHA-256 of the code
  makes_admin INTEGER NOT NULL DEFAULT 0,
  max_uses    INTEGER NOT NULL,
  uses        INTEGER NOT NULL DEFAULT 0,
  created_by  TEXT,
  created_at  INTEGER NOT NULL,
  expires_at  INTEGER               -- NULL: never
) STRICT, WITHOUT ROWID;

CREATE TABLE resets (
  code_hash   BLOB PRIMARY KEY,     -- SHA-256 of the code
  user_id     TEXT NOT NULL,
  expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Failed sign-ins and the like, per address and per account; survives restarts.
CREATE TABLE guesses (
  key            TEXT PRIMARY KEY,
  failures       INTEGER NOT NULL,
  blocked_until  INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  id        TEXT PRIMARY KEY,
  at        INTEGER NOT NULL,
  actor_id  TEXT,                   -- NULL: the operator's command line
  action    TEXT NOT NULL,
  target    TEXT NOT NULL DEFAULT '',
  detail    TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;

CREATE TABLE chats (
  id            TEXT PRIMARY KEY,
  kind          TEXT NOT NULL,      -- direct, group, saved
  pair_key      TEXT UNIQUE,        -- direct: both user ids, the smaller first; saved: the owner's id
  title         TEXT NOT NULL DEFAULT '',
  about         TEXT NOT NULL DEFAULT '',
  avatar_id     TEXT,
  history       TEXT NOT NULL DEFAULT 'all',  -- all, since_join
  seq           INTEGER NOT NULL DEFAULT 0,   -- of the newest message
  rev           INTEGER NOT NULL DEFAULT 0,   -- of the newest change
  members_rev   INTEGER NOT NULL DEFAULT 0,   -- grows when people come, go or change role
  members_count INTEGER NOT NULL DEFAULT 0,
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL,   -- of the newest message, for the order of the list
  deleted_at    INTEGER,
  changed       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
  chat_id        TEXT NOT NULL,
  user_id        TEXT NOT NULL,
  role           TEXT NOT NULL,     -- owner, admin, member
  first_seq      INTEGER NOT NULL DEFAULT 1,  -- nothing below it is ever served to this person
  delivered_seq  INTEGER NOT NULL DEFAULT 0,
  read_seq       INTEGER NOT NULL DEFAULT 0,
  joined_at      INTEGER NOT NULL,
  left_at        INTEGER,           -- a tombstone, so that /sync can tell
  began          INTEGER NOT NULL,  -- `changed` when this membership began
  pinned         INTEGER NOT NULL DEFAULT 0,
  archived       INTEGER NOT NULL DEFAULT 0,
  muted_until    INTEGER,
  changed        INTEGER NOT NULL,
  PRIMARY KEY (chat_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_user ON members (user_id, changed);
CREATE INDEX members_chat_changed ON members (chat_id, changed);

CREATE TABLE messages (
  number       INTEGER PRIMARY KEY,  -- also the row of the search table
  id           TEXT NOT NULL UNIQUE,
  chat_id      TEXT NOT NULL,
  seq          INTEGER NOT NULL,
  rev          INTEGER NOT NULL,
  changed      INTEGER NOT NULL,
  sender_id    TEXT,                -- NULL: system, or the account was deleted
  client_id    TEXT,
  kind         TEXT NOT NULL,       -- text, file, transfer, system
  text         TEXT NOT NULL DEFAULT '',
  extra        BLOB,                -- JSON: file_ids, transfer_id, system, reply_to, forwarded_from, mentions, reactions
  created_at   INTEGER NOT NULL,
  edited_at    INTEGER,
  deleted_at   INTEGER
) STRICT;
CREATE UNIQUE INDEX messages_seq ON messages (chat_id, seq);
CREATE UNIQUE INDEX messages_rev ON messages (chat_id, rev, changed);
CREATE UNIQUE INDEX messages_client ON messages (chat_id, sender_id, client_id) WHERE client_id IS NOT NULL;

-- Deleted for me.
CREATE TABLE hidden (
  user_id     TEXT NOT NULL,
  chat_id     TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  message_id  TEXT NOT NULL,
  changed     INTEGER NOT NULL,
  PRIMARY KEY (user_id, chat_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX hidden_changed ON hidden (user_id, changed);

-- Which message shows which file: this is what grants a chat's members the file.
CREATE TABLE message_files (
  file_id   TEXT NOT NULL,
  chat_id   TEXT NOT NULL,
  seq       INTEGER NOT NULL,
  PRIMARY KEY (file_id, chat_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_files_chat ON message_files (chat_id, seq);

-- unicode61's own classes cut Devanagari words at their vowel signs (Mc, Mn).
CREATE VIRTUAL TABLE search USING fts5 (
  chat_id, text, content='messages', content_rowid='number',
  tokenize = "unicode61 remove_diacritics 0 categories 'L* N* Co Mn Mc'"
);

CREATE TABLE files (
  id               TEXT PRIMARY KEY,
  owner_id         TEXT NOT NULL,
  chat_id          TEXT,            -- named at init: the file then lives by what shows it
  name             TEXT NOT NULL,
  size             INTEGER NOT NULL,
  mime             TEXT NOT NULL,
  sniffed_mime     TEXT,            -- by content, once complete
  state            TEXT NOT NULL,   -- uploading, completing, complete, expired, deleted
  chunk_size       INTEGER NOT NULL,
  received_bytes   INTEGER NOT NULL DEFAULT 0,  -- of all receipts
  checksum         BLOB,            -- SHA-256 over the raw chunk digests in order
  sha256           BLOB,            -- the sender's claim, or what was computed
  sha256_state     TEXT NOT NULL DEFAULT 'none',  -- none, claimed, verified, failed
  width            INTEGER,
  height           INTEGER,
  duration_s       REAL,
  preview_id       TEXT,            -- pictures.id
  backend          TEXT NOT NULL,
  location         TEXT NOT NULL DEFAULT '',
  ticket_id        TEXT,            -- the upload ticket that began it
  idempotency_key  TEXT,
  request_hash     BLOB,            -- of the body that came with the key
  created_at       INTEGER NOT NULL,
  completed_at     INTEGER,
  expires_at       INTEGER,         -- while uploading
  unshown_since    INTEGER,         -- when the last thing that showed it went
  deleted_at       INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX files_owner ON files (owner_id, state, size);
CREATE UNIQUE INDEX files_idempotency ON files (owner_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX files_expiry ON files (expires_at) WHERE state IN ('uploading', 'completing');
CREATE INDEX files_unshown ON files (unshown_since) WHERE unshown_since IS NOT NULL;
CREATE INDEX files_location ON files (backend, location);

-- Receipts; once the file is complete, its digests.
CREATE TABLE chunks (
  file_id  TEXT NOT NULL,
  idx      INTEGER NOT NULL,
  size     INTEGER NOT NULL,
  sha256   BLOB NOT NULL,
  tag      TEXT NOT NULL DEFAULT '',
  boot_id  TEXT,                    -- NULL: durable; else of the boot in which it was written
  PRIMARY KEY (file_id, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX chunks_volatile ON chunks (file_id) WHERE boot_id IS NOT NULL;

-- Prefixes of chunks that were cut off.
CREATE TABLE partials (
  file_id  TEXT NOT NULL,
  idx      INTEGER NOT NULL,
  bytes    INTEGER NOT NULL,
  boot_id  TEXT NOT NULL,
  PRIMARY KEY (file_id, idx)
) STRICT, WITHOUT ROWID;

-- Bytes to remove from a store, not before a time.
CREATE TABLE deletions (
  backend     TEXT NOT NULL,
  location    TEXT NOT NULL,
  not_before  INTEGER NOT NULL,
  PRIMARY KEY (backend, location)
) STRICT, WITHOUT ROWID;
CREATE INDEX deletions_due ON deletions (not_before);

CREATE TABLE leases (
  name        TEXT PRIMARY KEY,     -- backup, jobs
  holder      TEXT NOT NULL,
  expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Work that must follow a change even after a crash, such as restamping messages whose file went.
CREATE TABLE jobs (
  id        TEXT PRIMARY KEY,          -- kind:subject
  kind      TEXT NOT NULL,             -- restamp_file, forget_user, purge_chat
  payload   BLOB NOT NULL              -- the subject's id
) STRICT, WITHOUT ROWID;
