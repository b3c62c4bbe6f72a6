"""JSON Schema and Gemini's dialect of it."""

from typing import Any

from google.genai import types
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_interactive.protocols.gemini_schema import MAX_NODES, to_gemini, to_json_schema

NAMES = st.sampled_from(
    ["a", "const", "examples", "$ref", "type", "enum", "any_of", "nullable", "properties", "required"]
)
TYPES = ["string", "number", "integer", "boolean", "array", "object", "null"]
VALUES = st.sampled_from(["x", "", 1, 2.5, True, None, [], {}])


def schemas() -> st.SearchStrategy[Any]:
    keywords: dict[str, Any] = {
        "type": st.sampled_from(TYPES) | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, max_size=3),
        "const": VALUES,
        "format": st.sampled_from(["date-time", "uri", "int32", "enum"]),
        "title": VALUES,
        "default": VALUES,
        "minItems": VALUES,
        "maximum": VALUES,
        "$ref": st.sampled_from(["#", "#/$defs/x", "#/$defs/missing", "http://elsewhere", "#/properties/a"]),
        "additionalProperties": st.booleans(),
        "$schema": st.just("http://json-schema.org/draft-07/schema#"),
        "required": st.lists(NAMES, max_size=3),
    }

    def nest(inner: Any) -> Any:
        holders = {
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "items": inner | st.lists(inner, max_size=2),
            "prefixItems": st.lists(inner, max_size=2),
            "anyOf": st.lists(inner, max_size=3),
            "oneOf": st.lists(inner, max_size=3),
            "allOf": st.lists(inner, max_size=2),
            "$defs": st.fixed_dictionaries({"x": inner}),
        }
        return st.fixed_dictionaries({}, optional={**keywords, **holders})

    leaf = st.fixed_dictionaries({}, optional=keywords) | st.booleans()
    return st.fixed_dictionaries({}, optional=keywords) | st.recursive(leaf, nest, max_leaves=6).filter(
        lambda schema: isinstance(schema, dict)
    )


@settings(deadline=None)
@given(schemas())
def test_t42_whatever_comes_becomes_a_schema_that_the_sdk_takes(schema: Any) -> None:
    types.Schema.model_validate(to_gemini(schema))


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.fixed_dictionaries({"type": st.sampled_from(TYPES[:4])}), min_size=1), st.lists(NAMES))
def test_t43_names_of_properties_are_never_touched(properties: Any, required: list[str]) -> None:
    schema = {"type": "object", "properties": properties, "required": required}
    written = to_gemini(schema)
    assert list(written["properties"]) == list(properties)
    assert set(written.get("required", ())) == set(required) & set(properties)
    assert list(to_json_schema(written)["properties"]) == list(properties)
    assert to_json_schema(schema) == schema


def test_t44_references_are_inlined() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/x", "description": "d"}, "all": {"allOf": [{"$ref": "#/$defs/x"}]}},
        "$defs": {"x": inner},
    }
    wanted = {"type": "OBJECT", "properties": {"b": {"type": "STRING"}}}
    assert to_gemini(schema)["properties"] == {"a": {**wanted, "description": "d"}, "all": wanted}


def test_t44_a_schema_that_contains_itself_ends() -> None:
    node: Any = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    written = to_gemini({"$ref": "#/$defs/node", "$defs": {"node": node}})
    assert written == {"type": "OBJECT", "properties": {"next": {"type": "OBJECT"}}}


def test_t44_references_that_would_multiply_end() -> None:
    def level(number: int) -> Any:
        return {"type": "object", "properties": {name: {"$ref": f"#/$defs/n{number + 1}"} for name in "abc"}}

    schema = {"$ref": "#/$defs/n0", "$defs": {f"n{number}": level(number) for number in range(30)}}
    assert str(to_gemini(schema)).count("OBJECT") < 4 * MAX_NODES


def test_t45_t46_null_is_nullable() -> None:
    nullable = {"type": "STRING", "nullable": True}
    assert to_gemini({"type": ["string", "null"]}) == nullable
    assert to_gemini({"anyOf": [{"type": "string"}, {"type": "null", "title": "None"}]}) == nullable
    assert to_gemini({"type": ["string", "integer", "null"]}) == {
        "anyOf": [{"type": "STRING"}, {"type": "INTEGER"}],
        "nullable": True,
    }
    assert to_json_schema(nullable) == {"type": ["string", "null"]}
    either = {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}], "nullable": True}
    assert to_json_schema(either)["anyOf"] == [{"type": "string"}, {"type": "integer"}, {"type": "null"}]


def test_t47_enums_are_of_strings() -> None:
    assert to_gemini({"enum": ["a", "b", "a", None]}) == {"type": "STRING", "enum": ["a", "b"], "nullable": True}
    assert to_gemini({"type": "integer", "enum": [1, 2]}) == {"type": "INTEGER"}
    assert to_gemini({"type": "string", "enum": []}) == {"type": "STRING"}
    assert to_gemini({"const": "a"}) == {"type": "STRING", "enum": ["a"]}
    assert to_json_schema({"type": "STRING", "format": "enum", "enum": ["a"], "nullable": True}) == {
        "type": ["string", "null"],
        "enum": ["a", None],
    }


def test_t48_formats_and_lists() -> None:
    assert to_gemini({"type": "string", "format": "uri"}) == {"type": "STRING"}
    assert to_gemini({"type": "string", "format": "date-time"}) == {"type": "STRING", "format": "date-time"}
    assert to_gemini({"type": "array"}) == {"type": "ARRAY", "items": {"type": "STRING"}}
    pair = {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]}
    assert to_gemini(pair)["items"] == {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]}
    assert to_gemini({"type": "string", "required": ["a"], "additionalProperties": False}) == {"type": "STRING"}


def test_geminis_dialect_becomes_json_schema() -> None:
    dialect = {
        "type": "OBJECT",
        "properties": {"any_of": {"type": "ARRAY", "min_items": "2", "items": {"type": "NUMBER", "format": "float"}}},
        "property_ordering": ["any_of"],
        "defs": {"x": {"type": "STRING", "example": "e"}},
        "anyOf": [{"ref": "#/$defs/x"}],
        "title": None,
    }
    assert to_json_schema(dialect) == {
        "type": "object",
        "properties": {"any_of": {"type": "array", "minItems": 2, "items": {"type": "number", "format": "float"}}},
        "$defs": {"x": {"type": "string", "examples": ["e"]}},
        "anyOf": [{"$ref": "#/$defs/x"}],
    }
