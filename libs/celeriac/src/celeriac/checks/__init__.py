"""Checks that anyone can run against a deployment: `celeriac check`.

They use what every user has, the HTTP API with a token and the tasks of `workloads.examples`, and stop and start
workers and Redis the way that the deployment offers. What cannot be measured is never counted as passed.
"""
