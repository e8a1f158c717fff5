"""The HyperSend client: a library (`hypersend_client.sdk`), a command line and an app."""

__version__ = "0.1.0"
