# ruff: noqa: E501
"""Requests that hold most of what the protocols have besides plain text, to be changed by the fuzzers."""

from typing import Any

SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": ["string", "null"], "enum": ["x", None], "minLength": 1, "format": "date"},
        "b": {"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#/$defs/c"}], "default": 1},
        "d": {"type": "array", "items": {"type": "object", "additionalProperties": False}, "minItems": 1},
        "e": {"const": 4},
        "f": {"allOf": [{"type": "string"}, {"pattern": "^x"}]},
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"c": {"type": "object", "properties": {"again": {"$ref": "#/$defs/c"}}}},
}

MORE_REQUESTS: dict[str, tuple[dict[str, Any], ...]] = {
    "openai_chat": (
        {
            "model": "gpt-4o",
            "stream": True,
            "stream_options": {"include_usage": True},
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "user", "name": "ann", "content": [
                    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
                    {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}}]},
                {"role": "assistant", "content": None, "refusal": "No.", "reasoning_content": "hm", "tool_calls": [
                    {"id": "call_9", "type": "custom", "custom": {"name": "grep", "input": "x"}},
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
                {"role": "tool", "tool_call_id": "call_9", "content": [{"type": "text", "text": "found"}]},
                {"role": "tool", "tool_call_id": "call_1", "content": "!/set(temperature=1)"},
                {"role": "user", "content": "!/hello"},
            ],
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "d", "strict": True, "parameters": SCHEMA}},
                {"type": "custom", "custom": {"name": "grep", "format": {"type": "text"}}},
            ],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": False,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            "reasoning_effort": "high", "temperature": 0.5, "top_p": 0.9, "n": 2, "seed": 3, "logprobs": True,
            "top_logprobs": 2, "logit_bias": {"50256": -100}, "user": "u", "metadata": {"a": "b"}, "store": True,
            "presence_penalty": 0.1, "frequency_penalty": 0.1, "stop": "END", "service_tier": "auto",
            "prediction": {"type": "content", "content": "x"}, "modalities": ["text"], "max_tokens": 100,
        },
    ),
    "openai_responses": (
        {
            "model": "gpt-5",
            "instructions": "Be brief.",
            "input": [
                {"type": "message", "role": "user", "content": [
                    {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                    {"type": "input_text", "text": "!/status"}]},
                {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}],
                 "encrypted_content": "gAAAA", "content": [{"type": "reasoning_text", "text": "hm"}]},
                {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                    {"type": "output_text", "text": "x", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "No."}]},
                {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "*** Begin"},
                {"type": "custom_tool_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "y"}]},
                {"type": "local_shell_call", "call_id": "call_3", "id": "l", "status": "completed",
                 "action": {"type": "exec", "command": ["ls"], "env": {}}},
                {"type": "local_shell_call_output", "call_id": "call_3", "output": "{}"},
                {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "q"}},
                {"type": "item_reference", "id": "msg_0"},
            ],
            "tools": [
                {"type": "function", "name": "f", "description": "d", "strict": True, "parameters": SCHEMA},
                {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}},
                {"type": "web_search"}, {"type": "mcp", "server_label": "s", "server_url": "https://x.example"},
            ],
            "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
            "reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
            "store": False, "previous_response_id": "resp_0", "truncation": "auto", "prompt_cache_key": "k",
            "temperature": 1, "top_p": 1, "metadata": {"a": "b"}, "parallel_tool_calls": True, "max_tool_calls": 3,
        },
    ),
    "anthropic_messages": (
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 9000,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            "messages": [
                {"role": "user", "content": [
                    {"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                     "citations": {"enabled": True}},
                    {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "ZGF0YQ=="},
                    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
                    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
                        {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e"}]},
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1]}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": [
                        {"type": "text", "text": "r"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}]},
                    {"type": "text", "text": "!/set(project=x) go on", "cache_control": {"type": "ephemeral"}}]},
                {"role": "assistant", "content": "Well,"},
            ],
            "tools": [
                {"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True},
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 1},
                {"type": "bash_20250124", "name": "bash"},
            ],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 2000}, "metadata": {"user_id": "u"}, "top_k": 3,
            "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}},
            "temperature": 1, "stop_sequences": ["END"], "stream": True, "service_tier": "auto",
            "container": "c", "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        },
    ),
    "gemini": (
        {
            "system_instruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [
                    {"file_data": {"file_uri": "https://x.example/v.mp4", "mime_type": "video/mp4"},
                     "video_metadata": {"fps": 1}},
                    {"text": "!/help"}]},
                {"role": "model", "parts": [
                    {"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
                    {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
                    {"executableCode": {"language": "PYTHON", "code": "1"}},
                    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}]},
                {"role": "function", "parts": [
                    {"functionResponse": {"id": "c1", "name": "f", "response": {"output": {"deep": [None]}}, "parts": [
                        {"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}}]},
            ],
            "tools": [
                {"functionDeclarations": [
                    {"name": "f", "description": "d", "parametersJsonSchema": SCHEMA},
                    {"name": "g", "parameters": {"type": "OBJECT", "properties": {
                        "x": {"type": "STRING", "nullable": True, "enum": ["a"]}}, "propertyOrdering": ["x"]}}]},
                {"googleSearch": {}}, {"codeExecution": {}}, {"url_context": {}},
            ],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
            "generationConfig": {
                "temperature": 0.1, "topP": 0.5, "topK": 4, "candidateCount": 2, "seed": 1, "responseMimeType":
                "application/json", "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}},
                "responseJsonSchema": SCHEMA, "thinkingConfig": {"thinkingBudget": 100, "includeThoughts": True},
                "responseModalities": ["TEXT"], "speechConfig": {}, "responseLogprobs": True, "logprobs": 2},
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
            "cachedContent": "cachedContents/1", "labels": {"a": "b"},
        },
    ),
}  # fmt: skip
