"""The application factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from celeriac.errors import ConfigurationError
from celeriac.platform import CeleriacApp
from celeriac_api.audit import Audit
from celeriac_api.auth import Authenticator, Guard
from celeriac_api.limits import BodyLimit
from celeriac_api.listeners import Listeners
from celeriac_api.metrics import RequestMetrics
from celeriac_api.openapi import TAGS, install_document, operation_id
from celeriac_api.problems import install_problem_handlers
from celeriac_api.routes import audit, celery, dead_letters, events, health, metrics, queues, redis, tasks

DESCRIPTION = """
Submit Celery tasks, follow and cancel them. Errors are `application/problem+json` (RFC 9457). All paths need
`Authorization: Bearer <token>`, but `/health*`, `/metrics` and this documentation; what lies under `/admin`
needs scope `admin`, as does `POST /tasks/cancel`; elsewhere reading needs `read` and everything else `submit`.
"""


#: What needs no token: probes, metrics and the documentation.
OPEN = frozenset({"/metrics", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
OPEN_BELOW = ("/health", "/static-offline-docs")


def create_api(app: CeleriacApp, authenticator: Authenticator | None = None) -> FastAPI:
    """Make the HTTP API of a platform.

    Args:
        app: the platform.
        authenticator: who may do what; None for the bootstrap token of the settings and the tokens in the database.

    Raises:
        ConfigurationError: there is no token, or a workload's router cannot be imported.
    """

    @asynccontextmanager
    async def lifespan(_api: FastAPI) -> AsyncIterator[None]:
        yield
        app.task_events.close()
        await app.line.close()

    # Its documentation comes from this process: clusters and laptops may have no way to a CDN.
    api = FastAPIOffline(
        title="Celeriac",
        description=DESCRIPTION,
        version="0.1.0",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        lifespan=lifespan,
        # Requests are measured by `RequestMetrics`.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.state.celeriac = app
    api.state.listeners = Listeners(app.settings.api.max_listeners)
    install_problem_handlers(api)
    for own in (events, tasks, queues, celery, redis, dead_letters, audit):
        api.include_router(own.router)
    for workload in app.workloads:
        for path in workload.routers:
            router = getattr(workload.load(path), "router", None)
            if not isinstance(router, APIRouter):
                msg = f"workload {workload.name}: routers={path!r} has no FastAPI `router`"
                raise ConfigurationError(msg)
            api.include_router(router)
    api.include_router(health.router)
    api.include_router(metrics.router)
    install_document(api, _is_open)
    limits = app.settings.api
    api.add_middleware(
        BodyLimit,
        body=limits.max_body_bytes,
        upload=limits.max_upload_bytes,
        bulk=limits.max_bulk_bytes,
        seconds=limits.body_seconds,
    )
    api.add_middleware(Audit, audit=app.audit)
    authenticator = authenticator or Authenticator.from_app(app)
    api.add_middleware(Guard, authenticator=authenticator, is_open=_is_open)
    api.add_middleware(RequestMetrics)
    return api


def _is_open(path: str) -> bool:
    return path in OPEN or any(path == root or path.startswith(f"{root}/") for root in OPEN_BELOW)
