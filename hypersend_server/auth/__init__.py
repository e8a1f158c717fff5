"""The room of sessions: registering, signing in and out, tokens, passwords."""
