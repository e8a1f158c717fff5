"""HyperSend's server: chat, files of 40 GB and person-to-person transfers on a machine of one's own."""

__version__ = "0.1.0"
