"""Drives a cluster as its users do: by kubectl, helm and the HTTP API through a port-forward."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from tests.platform import wait_for

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "celeriac"

#: A pod may take so long to be there again, seconds: the database recovers, Redis loads, probes wait.
READY_SECONDS = 180


def run(*command: str | Path, stdin: str | None = None, timeout: float = 420) -> str:
    """Run a command and return what it prints; its error output becomes the error."""
    done = subprocess.run(
        [str(part) for part in command], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_image(image: str, context: Path, dockerfile: str = "Dockerfile", **build_args: str) -> None:
    """Build an image where the cluster finds it.

    `CELERIAC_E2E_BUILD` names the program that does it, called as
    `PROGRAM IMAGE CONTEXT -f DOCKERFILE --build-arg K=V ...`.
    """
    program = os.environ["CELERIAC_E2E_BUILD"]
    run(
        program,
        image,
        context,
        "-f",
        context / dockerfile,
        *(part for item in build_args.items() for part in ("--build-arg", "=".join(item))),
    )


class Release:
    """A release of the chart in a namespace."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self._forward: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the port-forward."""
        if self._forward is not None:
            self._forward.kill()
            self._forward.wait()
            self._forward = None

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return run("kubectl", "--namespace", self.namespace, *arguments, stdin=stdin)

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """Read objects."""
        return list(json.loads(self.kubectl("get", *arguments, "--output=json"))["items"])

    def helm(self, verb: str, *arguments: str, values: dict[str, Any] | None = None) -> str:
        """Install or upgrade the chart and wait until all of it is ready."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values or {}, file)
            file.flush()
            command = ["helm", verb, self.name, CHART, "--namespace", self.namespace, "--values", file.name]
            printed = run(*command, "--wait", "--timeout=6m", *arguments)
        # The forward may lead to a pod that is about to go, and knows only the old values.
        self.close()
        self.wait_until_ready()
        return printed

    def uninstall(self) -> None:
        """Remove the release and wait until its objects are gone."""
        self.close()
        run("helm", "uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout=4m")

    def scale(self, queue: str, replicas: int) -> None:
        """Scale the worker Deployment of a queue."""
        name = f"{self.name}-worker-{queue.replace('_', '-')}"
        self.kubectl("scale", f"deployment/{name}", f"--replicas={replicas}")

    def replicas(self, queue: str) -> int:
        """The replicas that a queue's Deployment asks for."""
        name = f"{self.name}-worker-{queue.replace('_', '-')}"
        return int(json.loads(self.kubectl("get", "deployment", name, "--output=json"))["spec"]["replicas"])

    def pods(self) -> list[dict[str, Any]]:
        """The pods of the release that are to stay, those of jobs left out."""
        found = self.get("pods", f"--selector=app.kubernetes.io/instance={self.name}")
        return [pod for pod in found if pod["metadata"]["ownerReferences"][0]["kind"] != "Job"]

    def wait_until_ready(self) -> None:
        """Wait until every pod of the release is ready and none is about to go."""

        def ready() -> bool:
            pods = self.pods()
            conditions = [
                condition["status"]
                for pod in pods
                for condition in pod["status"].get("conditions", [])
                if condition["type"] == "Ready"
            ]
            going = any("deletionTimestamp" in pod["metadata"] for pod in pods)
            return not going and len(conditions) == len(pods) and set(conditions) == {"True"}

        wait_for(ready, f"the pods of {self.name} to be ready", READY_SECONDS)

    def token(self) -> str:
        """The API's token, read as NOTES.txt says."""
        secret = json.loads(self.kubectl("get", "secret", f"{self.name}-api", "--output=json"))
        return base64.b64decode(secret["data"]["token"]).decode()

    def http(self) -> httpx.Client:
        """A client of the API through a port-forward that is begun anew when it has ended."""
        if self._forward is not None and self._forward.poll() is not None:
            self.close()
        if self._forward is None:
            self._forward = subprocess.Popen(
                ["kubectl", "--namespace", self.namespace, "port-forward", f"service/{self.name}-api", ":8000"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert self._forward.stdout is not None
            line = self._forward.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if found is None:
                self.close()
                raise httpx.ConnectError(line)
            self._address = f"http://127.0.0.1:{found[1]}"
            self._token = self.token()
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.Client(base_url=self._address, headers=headers, timeout=30)

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Call the API and read its JSON; a forward that ended with its pod is begun anew, a 503 is tried again."""

        def answer() -> httpx.Response | None:
            try:
                with self.http() as client:
                    found = client.request(method, path, **options)
            except httpx.HTTPError:
                self.close()
                return None
            return None if found.status_code == httpx.codes.SERVICE_UNAVAILABLE else found

        response = wait_for(lambda: (found := answer()) and (found,), f"{method} {path}", READY_SECONDS)[0]
        assert response.is_success, response.text
        return response.json()

    def health(self) -> dict[str, Any]:
        """Read /health."""
        return dict(self.request("GET", "/health"))

    def wait_for_health(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait until the checks of /health are as they should be."""
        wait_for(lambda: condition(self.health()["checks"]), what, READY_SECONDS)
        return self.health()

    def wait_for_task(self, task_id: str) -> dict[str, Any]:
        """Wait for a task's end and read it."""
        wait_for(lambda: self.request("GET", f"/tasks/{task_id}")["ready"], f"task {task_id} to end", READY_SECONDS)
        return dict(self.request("GET", f"/tasks/{task_id}"))

    def run_task(self, name: str, *args: object, **options: object) -> dict[str, Any]:
        """Submit a task and wait for its end."""
        submitted = self.request("POST", "/tasks", json={"name": name, "args": list(args), **options})
        return self.wait_for_task(submitted["task_id"])

    def upload(self, content: bytes, **form: str) -> int:
        """Register a file and return its id."""
        answer = self.request("POST", "/api/data-sync/files", files={"file": ("file.csv", content)}, data=form)
        return int(answer["file_id"])

    def sync(self, file_id: int) -> dict[str, Any]:
        """Sync a file and return its task."""
        submitted = self.request("POST", "/api/data-sync/sync-single-file", json={"file_id": file_id})
        return self.wait_for_task(submitted["celery_task_id"])

    def rows(self, **query: object) -> list[dict[str, Any]]:
        """All rows of a platform."""
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.request("GET", "/api/data-sync/rows", params={"limit": 1000, **query, **cursor})
            rows += page["items"]
            if page["cursor"] is None:
                return rows
            cursor = {"cursor": page["cursor"]}


def missing_tools(tools: Sequence[str] = ("kubectl", "helm")) -> list[str]:
    """The programs that are not on PATH."""
    return [tool for tool in tools if shutil.which(tool) is None]
