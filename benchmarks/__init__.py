"""Where the figures of the documentation come from. Each prints a table beside its peers."""
