"""The platforms that are compared: each publishes the same tasks and starts its own workers.

`workers` holds what runs in the worker processes.
"""
