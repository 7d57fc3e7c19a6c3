"""Which checks belong together."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from celeriac.checks.outage import DEGRADATION
from celeriac.checks.performance import CLIENTS, CONCURRENCY, EXECUTION, MEMORY, SUBMIT
from celeriac.checks.restarts import RECOVERY, RESTART
from celeriac.checks.run import Check
from celeriac.checks.status import STATUS


class Suite(StrEnum):
    """Checks that are run together."""

    STATUS = "status"
    RECOVERY = "recovery"
    PERFORMANCE = "performance"
    STRESS = "stress"
    ALL = "all"


#: The checks of each suite, in their order.
SUITES: Mapping[Suite, tuple[Check, ...]] = {
    Suite.STATUS: (STATUS,),
    Suite.RECOVERY: (RECOVERY,),
    Suite.PERFORMANCE: (SUBMIT, EXECUTION, CONCURRENCY, MEMORY),
    Suite.STRESS: (CLIENTS, RESTART, DEGRADATION),
    Suite.ALL: (STATUS, RECOVERY, SUBMIT, EXECUTION, CONCURRENCY, MEMORY, CLIENTS, RESTART, DEGRADATION),
}
