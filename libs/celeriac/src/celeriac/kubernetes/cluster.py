"""The API of the cluster that this process runs in, as the ServiceAccount of its pod."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import httpx

from celeriac.errors import CeleriacError, Unavailable

#: For each request, seconds.
_TIMEOUT_SECONDS = 5.0


class KubernetesError(CeleriacError):
    """The cluster's API refuses a request; the message is its own."""

    title = "Refused by Kubernetes"
    code = "refused-by-kubernetes"
    way_out = "Look at the Role of the API's ServiceAccount, and at what the message names."

    def __init__(self, http_status: int, message: str) -> None:
        """Note what it has answered.

        Args:
            http_status: the HTTP status.
            message: what it says.
        """
        self.http_status = http_status
        super().__init__(message)


class Cluster:
    """Speaks to the API of a cluster.

    It is asked rarely: each request makes a connection of its own, with the token of then, for tokens are replaced
    every hour.

    Args:
        url: where the API is.
        account_dir: where a pod finds its ServiceAccount: files `token`, `ca.crt` and `namespace`.
    """

    def __init__(self, url: str, account_dir: Path) -> None:
        self._url = url
        self._account_dir = account_dir

    @property
    def is_there(self) -> bool:
        """Whether this process has a ServiceAccount to speak as."""
        return (self._account_dir / "token").is_file()

    @property
    def namespace(self) -> str:
        """The namespace of the pod."""
        return (self._account_dir / "namespace").read_text().strip()

    def get(self, path: str) -> dict[str, Any]:
        """Read an object, or a list of them.

        Raises:
            KubernetesError: it is refused.
            Unavailable: the cluster's API does not answer.
        """
        return self._send("GET", path)

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        """Change fields of an object, by a JSON merge patch (RFC 7386); gives what it is then.

        Raises:
            KubernetesError: it is refused.
            Unavailable: the cluster's API does not answer.
        """
        return self._send("PATCH", path, json=patch, headers={"Content-Type": "application/merge-patch+json"})

    def _send(self, method: str, path: str, *, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:  # noqa: ANN401
        token = (self._account_dir / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", **(headers or {})}
        verify = ssl.create_default_context(cafile=self._account_dir / "ca.crt")
        try:
            # Proxies that the environment names are for what lies outside.
            with httpx.Client(base_url=self._url, verify=verify, timeout=_TIMEOUT_SECONDS, trust_env=False) as client:
                response = client.request(method, path, headers=headers, **body)
                found = response.json()
        except (httpx.HTTPError, ValueError) as error:
            msg = f"the API of Kubernetes at {self._url} does not answer as it should: {error}; try again later"
            raise Unavailable(msg) from error
        if response.is_server_error:
            msg = f"the API of Kubernetes answers {response.status_code}: {_message(found)}; try again later"
            raise Unavailable(msg)
        if response.is_error:
            raise KubernetesError(response.status_code, _message(found))
        answer: dict[str, Any] = found
        return answer


def _message(status: Any) -> str:  # noqa: ANN401 - any JSON
    return str(status.get("message", status)) if isinstance(status, dict) else str(status)
