"""Kills the pods of a release, by kubectl."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celeriac.checks.deployment import CheckFailed
from celeriac.checks.target import NotPossible, Part
from celeriac.errors import ConfigurationError

#: How long a kubectl may take, seconds.
_KUBECTL_SECONDS = 60

#: How long pods may take to go, and to come: scheduling, volumes, the wait for the database, seconds.
_PODS_SECONDS = 180

#: How often pods are looked at, seconds.
_POLL_SECONDS = 0.3

_COMPONENT = "app.kubernetes.io/component"


@dataclass(frozen=True)
class Release:
    """A release of the chart, in the cluster that kubectl speaks to."""

    name: str
    namespace: str

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace and give what it prints.

        Raises:
            CheckFailed: it failed; the message is its own.
        """
        command = [shutil.which("kubectl") or "kubectl", "--namespace", self.namespace, *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - arguments are our own and names
                command, capture_output=True, text=True, timeout=_KUBECTL_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            msg = f"--target kubernetes: kubectl cannot be run: {error}"
            raise ConfigurationError(msg) from error
        if done.returncode:
            msg = f"kubectl {' '.join(arguments)}: {done.stderr.strip()}"
            raise CheckFailed(msg)
        return done.stdout

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Read objects; those that do not exist are left out."""
        text = self.kubectl("get", *arguments, "--ignore-not-found", "--output=json")
        found: dict[str, Any] = json.loads(text) if text.strip() else {"items": []}
        items: list[dict[str, Any]] = found.get("items", [found])
        return items

    def token(self) -> str:
        """The API's token, which the chart keeps in a Secret.

        Raises:
            ConfigurationError: it is not there.
        """
        for secret in self.get("secret", f"{self.name}-api"):
            return base64.b64decode(secret["data"]["token"]).decode()
        raise self._missing("--token", "Secret")

    def _missing(self, option: str, kind: str) -> ConfigurationError:
        there = f"there is no {kind} {self.name}-api in namespace {self.namespace}"
        return ConfigurationError(f"{option}: {there}; check --release and --namespace, or give {option}")

    @contextmanager
    def forwarded(self) -> Iterator[str]:
        """Make a way to the API that outlives its pods, and give its URL."""
        services = self.get("service", f"{self.name}-api")
        if not services:
            raise self._missing("--url", "Service")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        closed = threading.Event()
        ports = f"{port}:{services[0]['spec']['ports'][0]['port']}"
        thread = threading.Thread(target=self._forward, args=(ports, closed), name="port-forward", daemon=True)
        thread.start()
        try:
            _wait_until_open(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            closed.set()
            thread.join()

    def _forward(self, ports: str, closed: threading.Event) -> None:
        command = ["kubectl", "--namespace", self.namespace, "port-forward", f"service/{self.name}-api", ports]
        while not closed.is_set():
            with subprocess.Popen(  # noqa: S603 - as above
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as forward:
                # It ends with the pod that it leads to.
                while forward.poll() is None and not closed.wait(_POLL_SECONDS):
                    pass
                forward.kill()


class Kubernetes:
    """The pods of a release.

    A part is stopped by deleting its pods, which are killed a second later, and scaling their Deployments and
    StatefulSet to zero; it is started again when the pods are seen to be gone. In this order and not by force: pods
    that were told to go in their own grace period keep to it, and one whose object is deleted by force does so unseen.
    The database is left alone.

    Args:
        release: the release.
        queue: the queue whose workers are stopped.
    """

    name = "kubernetes"

    def __init__(self, release: Release, queue: str) -> None:
        self._release = release
        self._queue = queue
        self._stopped: dict[Part, list[dict[str, Any]]] = {}

    def stop(self, part: Part) -> None:
        """Scale a part to zero and delete its pods.

        Raises:
            NotPossible: the release has no such part.
        """
        objects = [each for each in self._objects(part) if each["spec"]["replicas"]]
        if not objects:
            msg = f"release {self._release.name} runs no {part.value} in namespace {self._release.namespace}"
            raise NotPossible(msg + ("; is it external?" if part is Part.REDIS else ""))
        self._stopped[part] = objects
        killed = {pod["metadata"]["uid"] for each in objects for pod in self._pods(each)}
        for each in objects:
            self._release.kubectl("delete", "pod", _selector(each), "--grace-period=1", "--wait=false")
        self._release.kubectl("scale", *map(_name, objects), "--replicas=0")
        self._wait(
            lambda: not any(pod["metadata"]["uid"] in killed for each in objects for pod in self._pods(each)),
            f"the pods of {', '.join(map(_name, objects))} did not end",
        )

    def start(self, part: Part) -> None:
        """Scale it to what it had, and wait until its containers run."""
        objects = self._stopped.pop(part, [])
        for each in objects:
            self._release.kubectl("scale", _name(each), f"--replicas={each['spec']['replicas']}")
        self._wait(
            lambda: all(self._running(each) >= each["spec"]["replicas"] for each in objects),
            f"the pods of {', '.join(map(_name, objects))} did not start",
        )

    @staticmethod
    def _wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PODS_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                msg = f"{what} within {_PODS_SECONDS} s"
                raise CheckFailed(msg)
            time.sleep(_POLL_SECONDS)

    def _objects(self, part: Part) -> list[dict[str, Any]]:
        name = self._release.name
        if part is Part.WORKER:
            return self._release.get("deployment", f"{name}-worker-{self._queue.replace('_', '-')}")
        if part is Part.REDIS:
            return self._release.get("statefulset", f"{name}-redis")
        found = self._release.get("deployment,statefulset", f"--selector=app.kubernetes.io/instance={name}")
        return [each for each in found if each["metadata"]["labels"][_COMPONENT] in {"api", "worker", "beat", "redis"}]

    def _pods(self, owner: dict[str, Any]) -> list[dict[str, Any]]:
        return self._release.get("pods", _selector(owner))

    def _running(self, owner: dict[str, Any]) -> int:
        """The pods of which every container runs."""
        pods = [pod for pod in self._pods(owner) if "deletionTimestamp" not in pod["metadata"]]
        containers = [pod["status"].get("containerStatuses", []) for pod in pods]
        return sum(bool(each) and all("running" in container["state"] for container in each) for each in containers)


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + _KUBECTL_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError as error:
            if time.monotonic() > deadline:
                msg = f"--url: kubectl port-forward leads to no API within {_KUBECTL_SECONDS} s; give --url"
                raise ConfigurationError(msg) from error
            time.sleep(_POLL_SECONDS)
        else:
            return


def _name(each: dict[str, Any]) -> str:
    return f"{each['kind'].lower()}/{each['metadata']['name']}"


def _selector(each: dict[str, Any]) -> str:
    labels = each["spec"]["selector"]["matchLabels"]
    return "--selector=" + ",".join(f"{key}={value}" for key, value in labels.items())
