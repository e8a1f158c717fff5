"""Transfers from person to person: offers, and the relay that joins two devices and keeps nothing."""
