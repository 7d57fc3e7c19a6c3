"""Sends requests to an API in the process of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from celeriac import CeleriacApp
from celeriac_api.server import Server
from tests.contract.document import Contract
from tests.platform import wait_for
from tests.servers import free_port


class Http:
    """A client that uses one token, and holds answers against the OpenAPI document.

    A mistake of ours that no handler answers is an answer of 500.
    """

    def __init__(self, api: FastAPI, token: str) -> None:
        self._api = api
        self._token = token
        self._contract = Contract(api.openapi())

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.send("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.send("POST", path, **options)

    def delete(self, path: str) -> httpx.Response:
        return self.send("DELETE", path)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def request() -> httpx.Response:
            transport = httpx.ASGITransport(self._api, raise_app_exceptions=False, client=("10.0.0.7", 1234))
            headers = {"Authorization": f"Bearer {self._token}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
                return await client.request(method, path, **options)

        response = asyncio.run(request())
        self._contract.check(response)
        return response


@contextmanager
def served(app: CeleriacApp, api: FastAPI) -> Iterator[int]:
    """Serve an API in a thread, as `celeriac api` does; gives the port."""
    port = free_port()
    server = Server(uvicorn.Config(api, port=port, log_config=None, timeout_graceful_shutdown=20), app)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started, "the API to listen")
        yield port
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()
