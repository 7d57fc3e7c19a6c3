"""`celeriac up`: the whole platform on one machine with no server installed."""
