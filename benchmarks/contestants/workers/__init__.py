"""What runs inside of the workers: the same no-op for every contestant."""
