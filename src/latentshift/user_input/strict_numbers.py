"""Settings whose numbers are numbers: pydantic takes true for 1 and false for 0, and a mistake would say nothing.

Imports nothing else of the package.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError
from pydantic_core.core_schema import no_info_before_validator_function


def _without_booleans(schema: Any) -> Any:
    if isinstance(schema, (list, tuple)):
        return type(schema)(_without_booleans(each) for each in schema)
    if not isinstance(schema, dict):
        return schema
    inner = {name: _without_booleans(value) for name, value in schema.items()}
    if (kind := schema.get("type")) not in ("int", "float"):
        return inner

    def refuse(value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticKnownError("int_type" if kind == "int" else "float_type")
        return value

    return no_info_before_validator_function(refuse, cast(CoreSchema, inner))


class StrictNumbers(BaseModel):
    """A model that refuses true and false where a number is due, in lists and dictionaries too."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast(CoreSchema, _without_booleans(handler(source)))
