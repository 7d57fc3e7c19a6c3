"""The application factory."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI
from fastapi_offline import FastAPIOffline

from celeriac.errors import ConfigurationError
from celeriac.platform import CeleriacApp
from celeriac_api.auth import Authenticator, authorize
from celeriac_api.limits import BodyLimit
from celeriac_api.metrics import RequestMetrics
from celeriac_api.problems import PROBLEM_RESPONSES, install_problem_handlers
from celeriac_api.routes import health, metrics, tasks

DESCRIPTION = """
Submit Celery tasks, follow and cancel them. Errors are `application/problem+json` (RFC 9457). All paths but
`/health*` and `/metrics` need `Authorization: Bearer <token>`; reading needs scope `read`, everything else `submit`.
"""


def create_api(app: CeleriacApp, authenticator: Authenticator | None = None) -> FastAPI:
    """Make the HTTP API of a platform.

    Args:
        app: the platform.
        authenticator: who may do what; None for the bootstrap token of the settings.

    Raises:
        ConfigurationError: there is no token, or a workload's router cannot be imported.
    """
    # Its documentation comes from this process: clusters and laptops may have no way to a CDN.
    api = FastAPIOffline(title="Celeriac", description=DESCRIPTION, version="0.1.0", responses=PROBLEM_RESPONSES)
    api.state.celeriac = app
    api.state.authenticator = authenticator or Authenticator.from_settings(app.settings)
    install_problem_handlers(api)
    guarded = [Depends(authorize)]
    api.include_router(tasks.router, dependencies=guarded)
    for workload in app.workloads:
        for path in workload.routers:
            router = getattr(workload.load(path), "router", None)
            if not isinstance(router, APIRouter):
                msg = f"workload {workload.name}: routers={path!r} has no FastAPI `router`"
                raise ConfigurationError(msg)
            api.include_router(router, dependencies=guarded)
    api.include_router(health.router)
    api.include_router(metrics.router)
    limits = app.settings.api
    api.add_middleware(BodyLimit, body=limits.max_body_bytes, upload=limits.max_upload_bytes)
    api.add_middleware(RequestMetrics)
    return api
