-- For people with thousands of chats. None of these is written when a message is sent, and a mark writes as many
-- indexes as before.
CREATE INDEX members_list ON members (user_id, archived, pinned, left_at);
CREATE INDEX members_began ON members (user_id, began);
DROP INDEX members_user;
CREATE INDEX members_left ON members (user_id, changed) WHERE left_at IS NOT NULL;
-- What changed at all since a stamp: shorter than a long list of one's own chats.
CREATE INDEX members_changed ON members (changed);
CREATE INDEX messages_restamped ON messages (changed) WHERE changed <> number;
