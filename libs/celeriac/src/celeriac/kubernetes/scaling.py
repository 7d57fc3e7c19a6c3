"""Scaling the workers of a queue: their Deployment, as `kubectl scale` would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from celeriac.errors import Conflict, InvalidInput
from celeriac.kubernetes.cluster import Cluster, KubernetesError

log = structlog.get_logger(__name__)

_NOT_FOUND = 404


@dataclass(frozen=True)
class Scaled:
    """What was done to a Deployment."""

    deployment: str
    #: What it asks for now, and asked for before; pods come and go within seconds or minutes.
    replicas: int
    replicas_before: int


class Scaling:
    """Scales the worker Deployments of one release, and nothing else.

    Args:
        cluster: where they are.
        release: the Helm release that they belong to.
        max_replicas: the most that may be asked for.
        enabled: whether it is allowed.
    """

    def __init__(self, cluster: Cluster, *, release: str, max_replicas: int, enabled: bool) -> None:
        self._cluster = cluster
        self._release = release
        self._max_replicas = max_replicas
        self._enabled = enabled

    def scale(self, queue: str, replicas: int) -> Scaled:
        """Ask for a number of workers of a queue.

        Args:
            queue: its name.
            replicas: how many pods; 0 is none, and what waits then waits.

        Raises:
            InvalidInput: it is no number from 0 to the most that is allowed.
            Conflict: there is no cluster, scaling is switched off, the release has no such Deployment, something else
                decides on its replicas, or Kubernetes refuses.
            Unavailable: the cluster's API does not answer; it may have been done.
        """
        if not 0 <= replicas <= self._max_replicas:
            reason = f"a number from 0 to {self._max_replicas}; CELERIAC_SCALING__MAX_REPLICAS sets the most"
            raise InvalidInput("replicas", replicas, reason)
        if not self._enabled:
            msg = "scaling is switched off; set CELERIAC_SCALING__ENABLED, or api.scaling.enabled in the chart's values"
            raise Conflict(msg)
        if not self._release or not self._cluster.is_there:
            msg = "this API does not run in a cluster by Celeriac's chart, so there is no Deployment to scale; start "
            msg += f"workers with `celeriac worker --queue {queue}`"
            raise Conflict(msg)
        name = f"{self._release}-worker-{queue.replace('_', '-')}"
        try:
            before = self._find(name, queue)
            self._refuse_autoscaler(name)
            path = f"{self._deployments}/{name}/scale"
            after = self._cluster.merge(path, {"spec": {"replicas": replicas}})
        except KubernetesError as error:
            msg = f"Kubernetes refuses ({error.http_status}): {error}"
            raise Conflict(msg) from error
        # 0 is left out of the answer.
        scaled = Scaled(name, after["spec"].get("replicas", 0), before["spec"].get("replicas", 0))
        log.info("queue_scaled", queue=queue, deployment=name, replicas=scaled.replicas, before=scaled.replicas_before)
        return scaled

    @property
    def _deployments(self) -> str:
        return f"/apis/apps/v1/namespaces/{self._cluster.namespace}/deployments"

    def _find(self, name: str, queue: str) -> dict[str, Any]:
        try:
            deployment = self._cluster.get(f"{self._deployments}/{name}")
        except KubernetesError as error:
            if error.http_status != _NOT_FOUND:
                raise
            msg = f"release {self._release} has no Deployment {name}: queue {queue} is not among the chart's `queues`"
            raise Conflict(msg) from error
        labels = deployment["metadata"].get("labels", {})
        ours = {
            "app.kubernetes.io/instance": self._release,
            "app.kubernetes.io/component": "worker",
            "celeriac/queue": queue,
        }
        if not ours.items() <= labels.items():
            msg = f"Deployment {name} does not belong to release {self._release}, by its labels"
            raise Conflict(msg)
        return deployment

    def _refuse_autoscaler(self, name: str) -> None:
        path = f"/apis/autoscaling/v2/namespaces/{self._cluster.namespace}/horizontalpodautoscalers"
        for autoscaler in self._cluster.get(path)["items"]:
            target, metadata = autoscaler["spec"]["scaleTargetRef"], autoscaler["metadata"]
            if (target["kind"], target["name"]) != ("Deployment", name):
                continue
            owner = f"HorizontalPodAutoscaler {metadata['name']}"
            if scaled_object := metadata.get("labels", {}).get("scaledobject.keda.sh/name"):
                owner += f" of KEDA's ScaledObject {scaled_object}"
            msg = f"{owner} decides on the replicas of {name}, and would undo this; change its limits instead"
            raise Conflict(msg)
