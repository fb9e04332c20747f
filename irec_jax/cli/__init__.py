"""The `irec` command: one file a sub-command."""
