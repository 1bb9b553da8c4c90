"""What every table of a recipe is: typed, frozen, without unknown keys, its numbers finite numbers."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Settings(BaseModel):
    """A table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        if kind is not bool and isinstance(value, bool):
            raise ValueError("it cannot be true or false")
        if not isinstance(value, bool) and is_no_number(value):
            raise ValueError("it must be finite")
        return value


def is_no_number(value: Any) -> bool:
    """Whether a value passes for a number and is none: true, false, inf, nan.

    >>> [is_no_number(value) for value in (1, 0.5, "1", True, float("inf"))]
    [False, False, False, True, True]
    """
    return isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value))
