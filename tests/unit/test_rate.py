"""Rates: how they are written, and where one that cannot be is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celeriac import CeleriacApp, Workload
from celeriac.errors import ConfigurationError
from celeriac.rate import Rate
from celeriac.workload import rate_limits_of

MakeApp = Callable[..., CeleriacApp]


@pytest.mark.parametrize(
    ("text", "interval_us"),
    [("10/s", 100_000), ("600/m", 100_000), ("1000/h", 3_600_000), ("7/s", 142_857), ("10000/s", 100)],
)
def test_a_rate_is_a_number_and_a_unit(text: str, interval_us: int):
    rate = Rate.parse(text)
    assert (str(rate), rate.interval_us, rate.count) == (text, interval_us, int(text[:-2]))


@pytest.mark.parametrize(
    "text", ["", "10", "0/s", "-1/s", "1.5/s", "10/d", "10 / s", "10/s\n", "10001/s", "1\u0661/s", "/s"]
)
def test_anything_else_is_refused_with_what_would_be_right(text: str):
    with pytest.raises(ValueError, match="such as 10/s, 600/m or 1000/h, at most 10000/s"):
        Rate.parse(text)


def test_a_workload_that_declares_no_rate_is_refused():
    with pytest.raises(ConfigurationError, match=r"workload w: rate_limits\['w.one'\]: .* \(got '10/d'\)"):
        Workload(name="w", tasks=["w.tasks"], rate_limits={"w.one": "10/d"})


def test_settings_go_before_what_workloads_declare_and_null_lifts_it():
    workloads = [
        Workload(name="v", tasks=[], rate_limits={"v.one": "1/s", "v.two": "2/s"}),
        Workload(name="w", tasks=[], rate_limits={"w.one": "3/s"}),
    ]
    limits = rate_limits_of(workloads, {"v.two": "9/h", "w.one": None}, {"v.one", "v.two", "w.one"})
    assert limits == {"v.one": Rate.parse("1/s"), "v.two": Rate.parse("9/h")}


@pytest.mark.parametrize("where", ["workload w: rate_limits", "CELERIAC_RATE_LIMITS"])
def test_a_limit_of_no_task_is_refused_at_start(where: str):
    limits = {"w.unknown": "1/s"}
    workload = Workload(name="w", tasks=[], rate_limits=limits if where.startswith("workload") else {})
    others = {} if where.startswith("workload") else limits
    with pytest.raises(ConfigurationError, match=f"{where}: no such task 'w.unknown'; known are w.one"):
        rate_limits_of([workload], others, ["w.one"])


def test_an_app_knows_its_limits(make_app: MakeApp):
    assert make_app(rate_limits={"examples.add": "10/s"}).rate_limits == {"examples.add": Rate.parse("10/s")}
    with pytest.raises(ConfigurationError, match=r"CELERIAC_RATE_LIMITS: no such task 'examples\.ad'; known are "):
        make_app(rate_limits={"examples.ad": "10/s"})
