"""Cancelled tasks do not start, also those that were cancelled while no worker was up."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from celery.worker.request import Request
from celery.worker.state import revoked as revoked_here

if TYPE_CHECKING:
    from celeriac.platform import CeleriacApp


class RevocableRequest(Request):
    """A request that asks Redis, and not only this worker's memory, whether it was cancelled."""

    def revoked(self) -> bool:
        """Whether to skip the task: it is then acknowledged and ends as `REVOKED`."""
        if self.id not in revoked_here and cast("CeleriacApp", self.app).records.is_revoked(self.id):
            revoked_here.add(self.id)
        return bool(super().revoked())
