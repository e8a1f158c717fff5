-- What the sender's device says of a file that it put on the server instead; the server cannot make or check it.
ALTER TABLE transfers ADD COLUMN vouch TEXT;
