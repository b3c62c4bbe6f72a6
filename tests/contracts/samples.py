"""A few exchanges in every protocol, so that the contracts hold something where there are no recordings.

Written after the vendors' documentation: a stream and a whole reply that think, speak and call a tool, requests with
every common part, and refusals with their headers.
"""

import json
from collections.abc import Mapping
from typing import Any

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def _sse(*objects: Any, named: bool = False, done: bool = False) -> str:
    blocks = [
        (f"event: {each['type']}\n" if named else "") + f"data: {json.dumps(each, ensure_ascii=False)}\n\n"
        for each in objects
    ]
    return "".join(blocks) + ("data: [DONE]\n\n" if done else "")


# OpenAI Chat Completions

_CHAT = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_750_000_000, "model": "m"}
_CHAT_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 9,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 4},
}


def _chat(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {**_CHAT, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _chat_call(index: int, arguments: str, **start: Any) -> dict[str, Any]:
    name = {"name": start["name"]} if start else {}
    opening = {"id": start["id"], "type": "function"} if start else {}
    return _chat({"tool_calls": [{"index": index, **opening, "function": {**name, "arguments": arguments}}]})


_CHAT_STREAM = _sse(
    _chat({"role": "assistant", "content": ""}),
    _chat({"reasoning_content": "Where is "}),
    _chat({"reasoning_content": "it?"}),
    _chat({"content": "Let me look — "}),
    _chat({"content": "ein Moment 🌦."}),
    _chat_call(0, "", id="call_1", name="weather"),
    _chat_call(0, '{"city": '),
    _chat_call(0, '"Köln"}'),
    _chat_call(1, "{}", id="call_2", name="clock"),
    _chat({}, "tool_calls"),
    {**_CHAT, "choices": [], "usage": _CHAT_USAGE},
    done=True,
)
_CHAT_WHOLE = json.dumps(
    {
        **_CHAT,
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Half an ans"}, "finish_reason": "length"}
        ],
        "usage": _CHAT_USAGE,
    }
)

# OpenAI Responses


def _response(status: str, output: list[Any], **more: Any) -> dict[str, Any]:
    empty = {"error": None, "incomplete_details": None, "usage": None}
    own = {"id": "resp_1", "object": "response", "created_at": 1_750_000_000, "model": "m", "status": status}
    return {**own, "output": output, **empty, **more}


_RESPONSES_USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 29,
}
_RESPONSES_TEXT = {"type": "output_text", "text": "Let me look 🌦.", "annotations": []}
_RESPONSES_ITEMS: list[Any] = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Where is it?"}]},
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [_RESPONSES_TEXT]},
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"city":"Köln"}',
        "status": "completed",
    },
]


def _responses_events() -> list[dict[str, Any]]:
    thought, message, call = _RESPONSES_ITEMS
    part = {"item_id": "rs_1", "output_index": 0, "summary_index": 0}
    text = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    args = {"item_id": "fc_1", "output_index": 2}
    added = "response.output_item.added"
    done = "response.output_item.done"
    summary = {"type": "summary_text", "text": "Where is it?"}
    found: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response("in_progress", [])},
        {"type": "response.in_progress", "response": _response("in_progress", [])},
        {"type": added, "output_index": 0, "item": {**thought, "summary": []}},
        {"type": "response.reasoning_summary_part.added", **part, "part": {"type": "summary_text", "text": ""}},
        {"type": "response.reasoning_summary_text.delta", **part, "delta": "Where is it?"},
        {"type": "response.reasoning_summary_text.done", **part, "text": "Where is it?"},
        {"type": "response.reasoning_summary_part.done", **part, "part": summary},
        {"type": done, "output_index": 0, "item": thought},
        {"type": added, "output_index": 1, "item": {**message, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **text, "part": {**_RESPONSES_TEXT, "text": ""}},
        {"type": "response.output_text.delta", **text, "delta": "Let me "},
        {"type": "response.output_text.delta", **text, "delta": "look 🌦."},
        {"type": "response.output_text.done", **text, "text": "Let me look 🌦."},
        {"type": "response.content_part.done", **text, "part": _RESPONSES_TEXT},
        {"type": done, "output_index": 1, "item": message},
        {"type": added, "output_index": 2, "item": {**call, "arguments": "", "status": "in_progress"}},
        {"type": "response.function_call_arguments.delta", **args, "delta": '{"city":'},
        {"type": "response.function_call_arguments.delta", **args, "delta": '"Köln"}'},
        {"type": "response.function_call_arguments.done", **args, "arguments": '{"city":"Köln"}'},
        {"type": done, "output_index": 2, "item": call},
        {"type": "response.completed", "response": _response("completed", _RESPONSES_ITEMS, usage=_RESPONSES_USAGE)},
    ]
    return [{**each, "sequence_number": i} for i, each in enumerate(found)]


# Anthropic Messages

_CLAUDE_USAGE = {"input_tokens": 10, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 2}


def _claude(content: list[Any], reason: str | None, **usage: Any) -> dict[str, Any]:
    own = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content}
    return {**own, "stop_reason": reason, "stop_sequence": None, "usage": {**_CLAUDE_USAGE, **usage}}


def _claude_block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


_CLAUDE_STREAM = _sse(
    {"type": "message_start", "message": _claude([], None, output_tokens=1)},
    *_claude_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Where is it?"},
        {"type": "signature_delta", "signature": "c2lnbmF0dXJl"},
    ),
    {"type": "ping"},
    *_claude_block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Let me "},
        {"type": "text_delta", "text": "look 🌦."},
    ),
    *_claude_block(
        2,
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"city": '},
        {"type": "input_json_delta", "partial_json": '"Köln"}'},
    ),
    *_claude_block(3, {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}}),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 9},
    },
    {"type": "message_stop"},
    named=True,
)
_CLAUDE_WHOLE = json.dumps(_claude([{"type": "text", "text": "Half an ans"}], "max_tokens", output_tokens=9))

# Gemini


def _gemini(*parts: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    ended = {"finishReason": reason} if reason else {}
    return {"candidates": [candidate | ended], "modelVersion": "m", "responseId": "r1", **more}


_GEMINI_USAGE = {
    "usageMetadata": {
        "promptTokenCount": 20,
        "cachedContentTokenCount": 8,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 4,
        "totalTokenCount": 29,
    }
}
_GEMINI_CALL = {"functionCall": {"name": "weather", "args": {"city": "Köln"}}, "thoughtSignature": "c2lnbmF0dXJl"}
_GEMINI_STREAM = _sse(
    _gemini({"text": "Where is it?", "thought": True}),
    _gemini({"text": "Let me "}),
    _gemini({"text": "look 🌦."}),
    _gemini(_GEMINI_CALL, {"functionCall": {"name": "clock", "args": {}}}),
    _gemini({"text": ""}, reason="STOP", **_GEMINI_USAGE),
)
_GEMINI_WHOLE = json.dumps(_gemini({"text": "Half an ans"}, reason="MAX_TOKENS", **_GEMINI_USAGE))

REPLIES: Mapping[str, tuple[str, ...]] = {
    "openai_chat": (_CHAT_STREAM, _CHAT_WHOLE),
    "openai_responses": (
        _sse(*_responses_events(), named=True),
        json.dumps(_response("completed", _RESPONSES_ITEMS, usage=_RESPONSES_USAGE)),
    ),
    "anthropic_messages": (_CLAUDE_STREAM, _CLAUDE_WHOLE),
    "gemini": (_GEMINI_STREAM, _GEMINI_WHOLE),
}

# Requests: a system prompt, a picture, two turns with a call and its result, a tool, a limit, a stop sequence

REQUESTS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "openai_chat": (
        {
            "model": "m",
            "stream": True,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Weather here?"},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": "Looking.",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city":"Köln"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
                {"role": "user", "content": "And tomorrow?"},
            ],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
            "max_completion_tokens": 4000,
            "stop": ["END"],
        },
    ),
    "openai_responses": (
        {
            "model": "m",
            "instructions": "Be brief.",
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "Weather here?"},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
                    ],
                },
                {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Köln"}'},
                {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
                {"role": "user", "content": "And tomorrow?"},
            ],
            "tools": [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}],
            "max_output_tokens": 4000,
            "stream": True,
        },
    ),
    "anthropic_messages": (
        {
            "model": "m",
            "max_tokens": 4000,
            "system": "Be brief.",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Weather here?"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "Looking."},
                        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Köln"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"},
                        {"type": "text", "text": "And tomorrow?"},
                    ],
                },
            ],
            "tools": [{"name": "weather", "input_schema": SCHEMA}],
            "stop_sequences": ["END"],
        },
    ),
    "gemini": (
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {
                    "role": "user",
                    "parts": [{"text": "Weather here?"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}],
                },
                {"role": "model", "parts": [{"text": "Looking."}, _GEMINI_CALL]},
                {
                    "role": "user",
                    "parts": [{"functionResponse": {"name": "weather", "response": {"result": "rain"}}}],
                },
                {"role": "user", "parts": [{"text": "And tomorrow?"}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": SCHEMA}]}],
            "generationConfig": {"maxOutputTokens": 4000, "stopSequences": ["END"]},
        },
    ),
}

_WAIT = {"retry-after": "7"}
_OPENAI_ERRORS: tuple[tuple[int, dict[str, str], Any], ...] = (
    (429, _WAIT, {"error": {"message": "Slow down.", "type": "rate_limit_error", "param": None, "code": "rate_limit"}}),
    (400, {}, {"error": {"message": "No.", "type": "invalid_request_error", "param": "tools[0]", "code": None}}),
)
ERRORS: Mapping[str, tuple[tuple[int, dict[str, str], Any], ...]] = {
    "openai_chat": _OPENAI_ERRORS,
    "openai_responses": _OPENAI_ERRORS,
    "anthropic_messages": (
        (429, _WAIT, {"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down."}}),
        (529, {}, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    ),
    "gemini": (
        (429, _WAIT, {"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED"}}),
        (503, {}, {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}),
    ),
}
"""Status, headers, body."""
