"""What the platform asks of the cluster that it runs in.

Kubernetes' API is plain HTTP, and the few requests made here need no client of 123 MB; see docs/decisions/0007.
"""

from celeriac.kubernetes.cluster import Cluster, KubernetesError
from celeriac.kubernetes.scaling import Scaled, Scaling

__all__ = ["Cluster", "KubernetesError", "Scaled", "Scaling"]
