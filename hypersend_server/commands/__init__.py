"""What an operator types: one module a group of commands, each thin over the rooms' services."""
