"""The response object: as it begins, its usage, and how it failed."""

from collections.abc import Mapping

from llm_interactive.errors import UpstreamError
from llm_interactive.events import Usage
from llm_interactive.protocols.base import Json, ReplyContext

NAME = "openai_responses"

ERROR_CODES = frozenset(
    [
        "server_error",
        "rate_limit_exceeded",
        "invalid_prompt",
        "data_residency_mismatch",
        "bio_policy",
        "misalignment_policy_violation",
        "vector_store_timeout",
        "invalid_image",
        "invalid_image_format",
        "invalid_base64_image",
        "invalid_image_url",
        "image_too_large",
        "image_too_small",
        "image_parse_error",
        "image_content_policy_violation",
        "invalid_image_mode",
        "image_file_too_large",
        "unsupported_image_media_type",
        "empty_image_file",
        "failed_to_download_image",
        "image_file_not_found",
    ]
)
CODE_OF_STATUS: Mapping[int, str] = {
    400: "invalid_prompt",
    413: "invalid_prompt",
    422: "invalid_prompt",
    429: "rate_limit_exceeded",
}

ECHOED: Mapping[str, Json] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": True,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response repeats of its request, and what it says where nothing was asked."""


def write_usage(usage: Usage) -> dict[str, Json]:
    if usage.origin == NAME and isinstance(usage.raw, dict):
        return usage.raw
    read, output = usage.input or 0, usage.output or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": usage.cached or 0, "cache_write_tokens": usage.cache_write or 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": read + output,
    }


def write_failure(error: UpstreamError) -> dict[str, Json]:
    """The error of a failed response: its code is one of a closed list (TRAPS T74)."""
    code = error.code if error.code in ERROR_CODES else CODE_OF_STATUS.get(error.status, "server_error")
    return {"code": code, "message": error.message}


def new_response(id_: str, context: ReplyContext) -> dict[str, Json]:
    """A response that has just begun, with all that the SDK's type demands."""
    body = context.conversation.read_by(NAME) or {}
    said = {key: body[key] for key in ECHOED if body.get(key) is not None}
    reasoning = body.get("reasoning") or {}
    return {
        "id": id_,
        "object": "response",
        "created_at": context.now,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": context.model,
        "output": [],
        **ECHOED,
        **said,
        "reasoning": {"effort": None, "summary": None, **reasoning},
        "text": {"format": {"type": "text"}, **(body.get("text") or {})},
        "tools": [_echoed_tool(tool) for tool in body.get("tools") or ()],
        "usage": None,
    }


def _echoed_tool(tool: Json) -> Json:
    if isinstance(tool, dict) and tool.get("type") == "function":
        return {"description": None, "parameters": None, "strict": True, **tool}
    return tool
