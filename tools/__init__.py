"""What the repository's own upkeep needs."""
