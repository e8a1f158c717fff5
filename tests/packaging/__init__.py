"""The packaged app: its settings, its staged folder, the workflow that builds it."""
