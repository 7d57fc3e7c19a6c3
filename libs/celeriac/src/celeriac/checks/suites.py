"""Which checks belong together."""

from __future__ import annotations

from collections.abc import Mapping

from celeriac.checks.outage import DEGRADATION
from celeriac.checks.performance import CLIENTS, CONCURRENCY, EXECUTION, MEMORY, SUBMIT
from celeriac.checks.restarts import RECOVERY, RESTART
from celeriac.checks.run import Check
from celeriac.checks.status import STATUS

#: The checks of each command, in their order.
SUITES: Mapping[str, tuple[Check, ...]] = {
    "status": (STATUS,),
    "recovery": (RECOVERY,),
    "performance": (SUBMIT, EXECUTION, CONCURRENCY, MEMORY),
    "stress": (CLIENTS, RESTART, DEGRADATION),
    "all": (STATUS, RECOVERY, SUBMIT, EXECUTION, CONCURRENCY, MEMORY, CLIENTS, RESTART, DEGRADATION),
}
