"""Helm for the tests of the chart. Where there is none and no Go to build it with, they are skipped, or fail in CI."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from tests.binaries import ServerMissing, find_redis
from tests.chart.rendering import Renderer
from tools.helm import HelmMissing, find_helm, provide_helm

#: Building Helm from nothing takes minutes.
BUILD_TIMEOUT = 1800


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests that may have to build Helm the time for it."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(BUILD_TIMEOUT))


@pytest.fixture(scope="session")
def render() -> Renderer:
    """Renders the chart with the Helm that is there."""
    try:
        return Renderer(provide_helm())
    except HelmMissing as error:
        _give_up(str(error))


@pytest.fixture(scope="session")
def render_with_helm_3() -> Renderer:
    """Renders the chart with Helm 3."""
    return Renderer(_helm_of(3))


@pytest.fixture(scope="session")
def render_with_helm_4() -> Renderer:
    """Renders the chart with Helm 4."""
    return Renderer(_helm_of(4))


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """A Redis server, to be started as the chart starts it."""
    try:
        return find_redis()
    except ServerMissing as error:
        _give_up(str(error))


def _helm_of(major: int) -> Path:
    # A second Helm is only built where nothing may be left out.
    try:
        helm = provide_helm(major) if _in_ci() else find_helm(major)
    except HelmMissing as error:
        _give_up(str(error))
    return helm or _give_up(f"no Helm {major}: `python -m tools.helm {major}` builds it")


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true"}


def _give_up(reason: str) -> NoReturn:
    if _in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
