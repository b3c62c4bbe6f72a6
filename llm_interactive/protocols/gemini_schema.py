"""JSON Schema <-> the schema dialect of Gemini's `parameters` and `responseSchema` (OpenAPI 3.0 with upper-case types).

Both walks know where they are: keys under `properties` are names of the user's and never touched (TRAPS T43). The
dialect has no references, so they are inlined; a schema that contains itself, or that grows beyond `MAX_NODES`, ends
in a plain object there (T44).
"""

from collections.abc import Mapping
from typing import Any

from llm_interactive.protocols.base import Json

MAX_NODES = 2000

TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
FORMATS = {"string": ("enum", "date-time"), "number": ("float", "double"), "integer": ("int32", "int64")}
KEPT = (
    "title", "description", "default", "pattern", "minimum", "maximum", "minItems", "maxItems", "minLength",
    "maxLength", "minProperties", "maxProperties",
)  # fmt: skip
COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")


def camel(key: str) -> str:
    """REST takes every key in snake_case too."""
    if "_" not in key:
        return key
    head, *rest = key.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


# Gemini's dialect -> JSON Schema


def to_json_schema(schema: Json) -> Json:
    """What is JSON Schema already stays as it is (many clients send it in `parameters`)."""
    if not isinstance(schema, dict):
        return schema
    read: dict[str, Any] = {}
    nullable = False
    for key, value in schema.items():
        name = camel(key)
        if value is None and name != "default":
            continue
        if name == "nullable":
            nullable = value is True
        elif name == "type":
            read |= _plain_type(value)
        elif name in ("format", "example"):
            read |= _plain_note(name, value)
        elif name != "propertyOrdering":
            read[_PLAIN_NAMES.get(name, name)] = _plain_value(name, value)
    return _with_null(read) if nullable else read


_PLAIN_NAMES = {"defs": "$defs", "ref": "$ref"}


def _plain_type(value: Json) -> dict[str, Json]:
    if isinstance(value, str):
        return {} if value == "TYPE_UNSPECIFIED" else {"type": value.lower()}
    if isinstance(value, list):
        return {"type": [kind.lower() if isinstance(kind, str) else kind for kind in value]}
    return {"type": value}


def _plain_note(name: str, value: Json) -> dict[str, Json]:
    if name == "example":
        return {"examples": [value]}
    return {} if value == "enum" else {"format": value}


def _plain_value(name: str, value: Json) -> Json:
    if name in ("properties", "defs", "$defs", "definitions", "patternProperties") and isinstance(value, dict):
        return {key: to_json_schema(inner) for key, inner in value.items()}
    if name in ("anyOf", "oneOf", "allOf", "prefixItems") and isinstance(value, list):
        return [to_json_schema(inner) for inner in value]
    if name in ("items", "additionalProperties", "not"):
        return to_json_schema(value)
    if name in COUNTS and isinstance(value, str) and value.isdecimal():
        return int(value)  # int64 is a string in protobuf's JSON
    return value


def _with_null(schema: dict[str, Json]) -> dict[str, Json]:
    match schema.get("type"):
        case str(kind) if kind != "null":
            widened = {**schema, "type": [kind, "null"]}
            if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
                widened["enum"] = [*schema["enum"], None]
            return widened
        case None if isinstance(schema.get("anyOf"), list):
            return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return schema


# JSON Schema -> Gemini's dialect


def to_gemini(schema: Mapping[str, Json]) -> dict[str, Json]:
    return _Dialect(schema).write(schema, ())


class _Dialect:
    """One translation: the whole schema, to look references up in, and how many nodes were written."""

    def __init__(self, root: Mapping[str, Json]) -> None:
        self._root = root
        self._nodes = 0

    def write(self, schema: Json, inside: tuple[str, ...]) -> dict[str, Json]:
        self._nodes += 1
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return self._referred(schema, reference, inside)
        if self._nodes > MAX_NODES:
            return {"type": "OBJECT"}
        schema = self._merged(schema)
        written = {key: schema[key] for key in KEPT if _fits(key, schema.get(key))}
        kind = _kind(schema)
        variants, nullable = _variants(schema)
        if len(variants) == 1:
            written = self.write(variants[0], inside) | written
        elif variants:
            written["anyOf"] = [self.write(variant, inside) for variant in variants]
        if kind is not None:
            written["type"] = kind.upper()
        self._enum(schema, kind, written)
        if schema.get("format") in FORMATS.get(kind or "", ()):
            written["format"] = schema["format"]
        if kind == "array":
            written["items"] = self._items(schema, inside)
        if isinstance(schema.get("properties"), Mapping) and kind in ("object", None):
            self._object(schema, written, inside)
        if nullable:
            written["nullable"] = True
        return written

    def _referred(self, schema: Mapping[str, Json], reference: str, inside: tuple[str, ...]) -> dict[str, Json]:
        target = self._look_up(reference)
        if reference in inside or target is None or self._nodes > MAX_NODES:
            return {"type": "OBJECT"}
        beside = {key: schema[key] for key in ("title", "description", "default") if _fits(key, schema.get(key))}
        return self.write(target, (*inside, reference)) | beside

    def _look_up(self, reference: str) -> Json:
        if not reference.startswith("#"):
            return None
        found: Json = self._root
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step) if isinstance(found, Mapping) else None
        return found

    def _merged(self, schema: Mapping[str, Json]) -> Mapping[str, Json]:
        """`allOf` has no word here: its members become part of the schema around them."""
        members = schema.get("allOf")
        if not isinstance(members, list):
            return schema
        merged: dict[str, Json] = {}
        for member in [*members, {key: value for key, value in schema.items() if key != "allOf"}]:
            seen: tuple[str, ...] = ()
            while isinstance(member, Mapping) and isinstance(member.get("$ref"), str) and member["$ref"] not in seen:
                seen = (*seen, member["$ref"])
                member = self._look_up(member["$ref"])
            if not isinstance(member, Mapping):
                continue
            for key, value in member.items():
                if key == "properties" and isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
                    merged[key] = {**merged[key], **value}
                elif key == "required" and isinstance(value, list) and isinstance(merged.get(key), list):
                    merged[key] = [*merged[key], *value]
                elif key not in ("$ref", "allOf"):
                    merged[key] = value
        return merged

    def _items(self, schema: Mapping[str, Json], inside: tuple[str, ...]) -> dict[str, Json]:
        """An array must say what it holds."""
        items = schema.get("items")
        options = items if isinstance(items, list) else schema.get("prefixItems")
        if isinstance(items, Mapping):
            return self.write(items, inside)
        if isinstance(options, list) and options:
            written = [self.write(option, inside) for option in options]
            return written[0] if all(option == written[0] for option in written) else {"anyOf": written}
        return {"type": "STRING"}

    def _object(self, schema: Mapping[str, Json], written: dict[str, Json], inside: tuple[str, ...]) -> None:
        properties = schema["properties"]
        written["type"] = "OBJECT"
        written["properties"] = {str(name): self.write(inner, inside) for name, inner in properties.items()}
        required = schema.get("required")
        wanted = required if isinstance(required, list) else []
        names = [name for name in wanted if isinstance(name, str) and name in properties]
        if names:
            written["required"] = list(dict.fromkeys(names))

    def _enum(self, schema: Mapping[str, Json], kind: str | None, written: dict[str, Json]) -> None:
        """Strings only, and only on strings (T47)."""
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if not isinstance(values, list):
            return
        words = [value for value in values if isinstance(value, str) and value]
        if words and kind in ("string", None) and "anyOf" not in written:
            written["type"], written["enum"] = "STRING", list(dict.fromkeys(words))
        if None in values:
            written["nullable"] = True


def _fits(key: str, value: Json) -> bool:
    if value is None or (isinstance(value, bool) and key != "default"):
        return False
    if key in ("title", "description", "pattern"):
        return isinstance(value, str)
    if key in COUNTS:
        return isinstance(value, int) and 0 <= value < 2**63
    return key == "default" or isinstance(value, (int, float))


def _is_null(schema: Json) -> bool:
    """By its type alone: pydantic gives it a title (T46)."""
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _types(schema: Mapping[str, Json]) -> list[str]:
    kinds = schema.get("type")
    return [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str) and kind in TYPES]


def _kind(schema: Mapping[str, Json]) -> str | None:
    """The one type besides null; None where there are several or none."""
    kinds = _types(schema)
    real = [kind for kind in kinds if kind != "null"]
    if len(real) == 1:
        return real[0]
    return "null" if kinds and not real else None


def _variants(schema: Mapping[str, Json]) -> tuple[list[Json], bool]:
    """What `anyOf`, `oneOf` or a list of types allow, without null, and whether null is allowed (T45)."""
    kinds = _types(schema)
    real = [kind for kind in kinds if kind != "null"]
    nullable = bool(real) and "null" in kinds
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list):
            variants = [option for option in options if not _is_null(option)]
            return variants, nullable or len(variants) < len(options)
    if len(real) > 1:
        shared = {key: schema[key] for key in ("items", "properties", "required") if key in schema}
        own = {"array": ("items",), "object": ("properties", "required")}
        return [{"type": kind} | {k: shared[k] for k in own.get(kind, ()) if k in shared} for kind in real], nullable
    return [], nullable
