"""JSON schemas as Anthropic takes them, for tools and for structured output.

Its constrained output knows a part of JSON Schema and answers the rest with a 400: objects must be closed, and limits
on numbers, lengths and patterns are taken out, which only widens what the model may answer.
"""

from collections.abc import Mapping
from typing import Any

from llm_interactive.protocols.base import Json

UNKNOWN = frozenset(
    [
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
        "pattern", "maxItems", "uniqueItems", "contains", "minContains", "maxContains", "prefixItems",
        "minProperties", "maxProperties", "patternProperties", "propertyNames", "unevaluatedProperties",
        "unevaluatedItems", "dependentRequired", "dependentSchemas", "if", "then", "else", "not", "nullable",
        "propertyOrdering", "example", "examples",
    ]
)  # fmt: skip
FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"],
)
MAPS = ("properties", "$defs", "definitions")
"""Keys whose value maps names, which are no keywords, to schemas (TRAPS T43)."""
LISTS = ("anyOf", "allOf")


def tool_schema(schema: Mapping[str, Json] | None) -> dict[str, Json]:
    """`input_schema` must be an object's, and have no alternatives at the top: their properties are put together."""
    written = {"type": "object", "properties": {}, **(schema or {})} if not schema else dict(schema)
    for key in ("anyOf", "oneOf", "allOf"):
        variants = written.pop(key, None)
        for variant in variants if isinstance(variants, list) else ():
            properties = variant.get("properties") if isinstance(variant, dict) else None
            if isinstance(properties, dict):
                written["properties"] = {**properties, **(written.get("properties") or {})}
    written["type"] = "object"
    return written


def output_schema(schema: Json) -> Json:
    """What constrained output takes."""
    if not isinstance(schema, dict):
        return schema
    written: dict[str, Any] = {}
    for key, value in schema.items():
        if key in MAPS and isinstance(value, dict):
            written[key] = {name: output_schema(inner) for name, inner in value.items()}
        elif key in (*LISTS, "oneOf") and isinstance(value, list):
            written["anyOf" if key == "oneOf" else key] = [output_schema(inner) for inner in value]
        elif key == "items":
            written[key] = output_schema(value)
        elif _is_known(key, value):
            written[key] = value
    if written.get("type") == "object" or "properties" in written:
        written["type"] = "object"
        written["additionalProperties"] = False
    return _nullable(written) if schema.get("nullable") is True else written


def _is_known(key: str, value: Json) -> bool:
    if key == "format":
        return isinstance(value, str) and value in FORMATS
    if key == "minItems":
        return value in (0, 1)
    return key not in UNKNOWN


def _nullable(schema: dict[str, Json]) -> dict[str, Json]:
    kind = schema.get("type")
    if isinstance(kind, str) and kind not in ("object", "array") and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [schema, {"type": "null"}]}
