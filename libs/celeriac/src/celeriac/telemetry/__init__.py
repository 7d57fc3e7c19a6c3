"""Structured logs."""

from celeriac.telemetry.logs import configure_logs

__all__ = ["configure_logs"]
