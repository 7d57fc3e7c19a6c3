"""The registry: which workers live, in one cheap read and without a broadcast."""

from celeriac.registry.directory import Registry, WorkerRecord

__all__ = ["Registry", "WorkerRecord"]
