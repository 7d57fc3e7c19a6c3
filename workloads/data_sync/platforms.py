"""The platforms that files come from: what their columns mean and what identifies a row.

| platform | header | natural key | table |
| --- | --- | --- | --- |
| `generic` | any; every value stays text | all columns | `data_sync_generic_row` |
| `shopee` | an order export of the seller centre | order, SKU, product, variation | `data_sync_shopee_order_item` |

Key columns named at upload replace the natural key on any platform.
"""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.errors import InvalidInput
from workloads.data_sync.contract import PLATFORMS
from workloads.data_sync.generic import GenericPlan
from workloads.data_sync.plan import Plan
from workloads.data_sync.shopee import ShopeePlan

_PLANS: dict[str, type[GenericPlan | ShopeePlan]] = dict(zip(PLATFORMS, (GenericPlan, ShopeePlan), strict=True))


def check_platform(platform: str) -> None:
    """Refuse a platform that is not known.

    Raises:
        InvalidInput: it is not.
    """
    if platform not in _PLANS:
        raise InvalidInput("platform", platform, f"unknown platform; use one of {', '.join(PLATFORMS)}")


def plan_for(platform: str, columns: Sequence[str], key_columns: Sequence[str] | None) -> Plan:
    """Bind a platform to the header of a file.

    Args:
        platform: one of `contract.PLATFORMS`.
        columns: the names in the header.
        key_columns: the columns that identify a row; None for the platform's own choice.

    Raises:
        InvalidInput: the platform, a key column or a column that the platform requires is not there.
    """
    check_platform(platform)
    for name in key_columns or ():
        if name not in columns:
            raise InvalidInput("key_columns", name, f"no such column; the file has {', '.join(columns)[:1000]}")
    return _PLANS[platform](columns, list(dict.fromkeys(key_columns or ())))
