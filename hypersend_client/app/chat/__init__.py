"""The conversation: `model` says what stands in it, `room` keeps it up to date, the rest draws it."""
