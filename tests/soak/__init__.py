"""Trials that break a running platform on purpose and count what became of its tasks.

    python -m tests.soak chaos --seed 7

Each trial starts real Redis servers and real `celeriac worker` process groups, kills, pauses or starves them, and
judges by a ledger that lies outside of all that is killed. It prints its seed first and a table of figures at the end,
and ends with 1 where a promise was broken. They are no part of `make test`, for they take minutes; a short `chaos` is,
in tests/integration/test_chaos.py.
"""
