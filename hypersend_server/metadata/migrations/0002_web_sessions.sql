-- SHA-256 of the secret that a browser keeps in a cookie; NULL: the session of a device.
ALTER TABLE sessions ADD COLUMN web_secret BLOB;
