"""Whole numbers as JSON has them."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BeforeValidator

#: The largest id that every JSON parser reads exactly.
MAX_ID: Final = 2**53 - 1


def _refuse_others(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    # To JSON, 2.0 is the same number as 2; pydantic would also take "2" and true.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        msg = "Input should be a valid integer"
        raise ValueError(msg)  # noqa: TRY004 - pydantic reports this one
    return value


#: A whole number in a JSON body: `Annotated[int, Field(ge=0, le=9), WHOLE]`.
WHOLE: Final = BeforeValidator(_refuse_others)
