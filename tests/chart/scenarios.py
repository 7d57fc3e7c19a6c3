"""Values of whole platforms, which the promises about every object are tested with."""

from __future__ import annotations

from typing import Any

#: What no rendered object may show outside a Secret.
SECRETS = {
    "token": "tok3n-of-the-api",
    "redis": "rediss://:pw-of-redis@redis.example:6380/1",
    "database": "postgresql://me:pw-of-database@db.example/celeriac",
}

EXTERNAL: dict[str, Any] = {
    "api": {"token": SECRETS["token"], "scaling": {"enabled": False}},
    "redis": {"bundled": False, "url": SECRETS["redis"]},
    "database": {"bundled": False, "url": SECRETS["database"]},
}

EXISTING_SECRETS: dict[str, Any] = {
    "api": {"existingSecret": "my-api"},
    "redis": {"bundled": False, "existingSecret": "my-redis"},
    "database": {"bundled": False, "existingSecret": "my-database"},
    "fileStore": {
        "url": "s3://bucket/prefix",
        "existingSecret": "my-keys",
        "endpoint": "http://minio:9000",
        "region": "eu-central-1",
    },
}

_PLACE: dict[str, Any] = {
    "priorityClassName": "important",
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "jobs", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]
            }
        }
    },
}

EVERYTHING: dict[str, Any] = {
    "workloads": ["workloads.data_sync", "my_company.billing"],
    "timezone": "Asia/Shanghai",
    "settings": {"CELERIAC_WORKER__TIME_LIMIT": "1800"},
    "extraEnv": [{"name": "SMTP_USER", "valueFrom": {"secretKeyRef": {"name": "smtp", "key": "user"}}}],
    "extraEnvFrom": [{"secretRef": {"name": "smtp"}}],
    "podAnnotations": {"example.com/note": "yes"},
    "podLabels": {"team": "jobs"},
    "serviceAccountAnnotations": {"example.com/role": "files"},
    "imagePullSecrets": [{"name": "registry"}],
    "queues": {
        "email": {"pool": "threads", "concurrency": 20, "env": {"A": "1"}, "image": {"tag": "mail"}},
        "on_hold": {"replicas": 0},
        "scaled": {"replicas": None},
    },
    "workerDefaults": _PLACE,
    "api": {"replicas": 3, "service": {"type": "LoadBalancer", "port": 80}, **_PLACE},
    "beat": _PLACE,
    "migrate": {key: value for key, value in _PLACE.items() if key != "priorityClassName"},
    "redis": {"persistence": {"retain": True, "storageClass": "fast"}, **_PLACE},
    "database": {"persistence": {"retain": True, "storageClass": "fast"}, **_PLACE},
}

SCENARIOS: dict[str, dict[str, Any]] = {
    "no values": {},
    "external servers": EXTERNAL,
    "existing Secrets": EXISTING_SECRETS,
    "everything": EVERYTHING,
}
