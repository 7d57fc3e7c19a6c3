"""Celeriac's HTTP API."""
