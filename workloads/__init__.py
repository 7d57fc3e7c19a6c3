"""The workloads that come with Celeriac, one package each."""
