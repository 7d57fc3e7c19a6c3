"""A namespace with the strictest Pod Security, and a release installed with no values."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import Release, missing_tools, run


@pytest.fixture(scope="session")
def namespace() -> Iterator[str]:
    """A namespace of its own, which accepts restricted pods only."""
    for variable in ("KUBECONFIG", "CELERIAC_E2E_BUILD"):
        if variable not in os.environ:
            pytest.fail(f"set {variable}; `make e2e` does", pytrace=False)
    if missing := missing_tools():
        pytest.fail(f"not on PATH: {', '.join(missing)}", pytrace=False)
    name = f"celeriac-e2e-{secrets.token_hex(3)}"
    run("kubectl", "create", "namespace", name)
    run("kubectl", "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    run("kubectl", "delete", "namespace", name, "--wait=true", "--timeout=180s")


@pytest.fixture(scope="session")
def release(namespace: str) -> Iterator[Release]:
    """The chart, installed with no values."""
    with Release("demo", namespace) as release:
        release.helm("install")
        yield release


def pytest_exception_interact(node: pytest.Item) -> None:
    """Show what the cluster has to say to a failed test."""
    release = getattr(node, "funcargs", {}).get("release")
    if isinstance(release, Release):
        print(release.kubectl("get", "pods,jobs", "--output=wide"))
        print(release.kubectl("get", "events", "--sort-by=.lastTimestamp"))
