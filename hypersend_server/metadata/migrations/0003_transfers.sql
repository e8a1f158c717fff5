-- Transfers from person to person: metadata alone, the bytes never come here.
CREATE TABLE transfers (
  id                 TEXT PRIMARY KEY,
  chat_id            TEXT NOT NULL,
  message_id         TEXT NOT NULL,
  client_id          TEXT NOT NULL,
  sender_id          TEXT NOT NULL,
  sender_session     TEXT NOT NULL,
  sender_key         TEXT,
  receiver_id        TEXT,
  receiver_session   TEXT,
  receiver_key       TEXT,
  name               TEXT NOT NULL,
  size               INTEGER NOT NULL,
  mime               TEXT NOT NULL,
  status             TEXT NOT NULL,
  transferred_bytes  INTEGER NOT NULL,
  file_id            TEXT,
  created_at         INTEGER NOT NULL,
  updated_at         INTEGER NOT NULL,
  expires_at         INTEGER NOT NULL,
  shown              INTEGER NOT NULL,  -- whether its message shows this status
  relay              TEXT,              -- the process that joins both ends
  relay_until        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX transfers_client ON transfers (chat_id, sender_id, client_id);
CREATE INDEX transfers_chat ON transfers (chat_id, id);
CREATE INDEX transfers_sender ON transfers (sender_id) WHERE status IN ('offered', 'accepted', 'active', 'paused');
CREATE INDEX transfers_receiver ON transfers (receiver_id) WHERE status IN ('offered', 'accepted', 'active', 'paused');
CREATE INDEX transfers_open ON transfers (expires_at) WHERE status IN ('offered', 'accepted', 'active', 'paused');
CREATE INDEX transfers_active ON transfers (relay_until) WHERE status = 'active';
CREATE INDEX transfers_unshown ON transfers (updated_at) WHERE shown = 0;
