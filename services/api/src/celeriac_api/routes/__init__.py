"""The routes of the platform itself; workloads bring their own."""
