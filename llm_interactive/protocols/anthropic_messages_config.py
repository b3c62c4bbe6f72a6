"""Tools and settings of a Messages request: sampling, thinking, structured output; and how they must agree."""

from collections.abc import Mapping
from typing import Any

from llm_interactive.conversation import Conversation, Opaque, OutputFormat, Text, Tool
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols import efforts
from llm_interactive.protocols.anthropic_messages_errors import NAME
from llm_interactive.protocols.anthropic_messages_schema import output_schema, tool_schema
from llm_interactive.protocols.base import Json, Notes, Target

DEFAULT_MAX_TOKENS = 8192
MIN_BUDGET = 1024
CLAUDES = ("low", "medium", "high", "xhigh", "max")
MODES: Mapping[str, str] = {"auto": "auto", "required": "any", "named": "tool", "none": "none"}
UNSAID: Mapping[str, str] = {
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logprobs": "logprobs",
    "logit_bias": "logit_bias",
}
"""`Sampling` fields that Anthropic has no words for (TRAPS T68)."""
SEARCH = ("web_search", "googleSearch", "google_search")
"""How others' names for their search begin."""
OWN_SEARCH = {"type": "web_search_20250305", "name": "web_search"}
JSON_ONLY = "Answer with one JSON object and nothing else: no words around it and no code fence."
MIN_TOP_P_THINKING = 0.95


class ConfigWriter:
    """`names`: tool names as the client wrote them -> as they are sent."""

    def __init__(self, conversation: Conversation, target: Target, notes: Notes, names: Mapping[str, str]) -> None:
        self._conversation = conversation
        self._target = target
        self._notes = notes
        self._names = names

    def tools(self) -> dict[str, Json]:
        conversation = self._conversation
        written: dict[str, Json] = {}
        for position, tool in enumerate(conversation.tools):
            entry = self._opaque_tool(tool) if isinstance(tool, Opaque) else self._tool(tool)
            if entry is None:
                continue
            key = entry.get("name") or f"#{position}"
            if key in written and tool.read_by(NAME) is None:
                self._notes.add(f"tool {key}: sent once, it was declared again")
                continue
            written[key if key not in written else f"#{position}"] = entry
        if conversation.tools and not written:
            said = ", ".join(tool.what for tool in conversation.tools if isinstance(tool, Opaque))
            raise CannotExpress(f"the tool {said} is run by its own provider only", param="tools")
        if not conversation.tools:
            written = self._stand_ins()
        return {"tools": list(written.values())} if written else {}

    def _tool(self, tool: Tool) -> dict[str, Json] | None:
        own = tool.read_by(NAME)
        if own is not None:
            return dict(own)
        choice = self._conversation.tool_choice
        if choice is not None and choice.allowed and tool.name not in choice.allowed:
            self._notes.add(f"tool {tool.name}: not sent, the request does not allow it")
            return None
        if tool.strict:
            self._notes.add("strict: not sent, Anthropic's takes only a part of JSON Schema")
        entry: dict[str, Json] = {"name": self._names.get(tool.name, tool.name)}
        description = tool.description
        if tool.custom:
            grammar = (tool.format or {}).get("definition") if isinstance(tool.format, dict) else None
            description = "\n\n".join(text for text in (description, grammar) if isinstance(text, str) and text)
        if description:
            entry["description"] = description
        text = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
        return {**entry, "input_schema": text if tool.custom else tool_schema(tool.schema)}

    def _opaque_tool(self, tool: Opaque) -> dict[str, Json] | None:
        own = tool.read_by(NAME)
        if own is not None:
            return dict(own)
        if tool.what.startswith(SEARCH) and self._target.vendor == "anthropic":
            return dict(OWN_SEARCH)
        self._notes.add(f"tool {tool.what}: not sent, only its own provider runs it")
        return None

    def _stand_ins(self) -> dict[str, Json]:
        """Tools must be declared where the history holds calls (they are not to be called again)."""
        if self._conversation.read_by(NAME) is not None:
            return {}
        called = dict.fromkeys(self._conversation.call_names().values())
        names = [self._names.get(name, name) for name in called]
        return {name: {"name": name, "input_schema": tool_schema(None)} for name in names}

    def tool_choice(self) -> dict[str, Json]:
        choice = self._conversation.tool_choice
        if not self._conversation.tools:
            return {"tool_choice": {"type": "none"}} if self._stand_ins() else {}
        if choice is None:
            return {}
        own = choice.read_by(NAME)
        if own is not None:
            return {"tool_choice": own}
        written: dict[str, Json] = {"type": MODES[choice.mode or "auto"]}
        if choice.mode == "named" and choice.name is not None:
            written["name"] = self._names.get(choice.name, choice.name)
        if choice.parallel is False and choice.mode != "none":
            written["disable_parallel_tool_use"] = True
        return {"tool_choice": written} if choice.mode is not None or choice.parallel is False else {}

    def sampling(self) -> dict[str, Json]:
        sampling = self._conversation.sampling
        values: dict[str, Any] = {"max_tokens": self._max_tokens()}
        for key in ("temperature", "top_p", "top_k"):
            if (value := getattr(sampling, key)) is not None:
                values[key] = value
        efforts.fit_sampling(values, self._conversation, self._target, self._notes, hottest=1.0)
        stops = [stop for stop in sampling.stop if stop.strip()]
        if len(stops) < len(sampling.stop):
            self._notes.add("stop: sequences of white space only are not sent, Anthropic refuses them")
        if stops:
            values["stop_sequences"] = stops
        self._note_unsaid()
        return values

    def _max_tokens(self) -> int:
        asked, limit = self._conversation.sampling.max_tokens, self._target.facts.max_output
        return max(asked, 1) if asked is not None else limit or DEFAULT_MAX_TOKENS

    def _note_unsaid(self) -> None:
        sampling = self._conversation.sampling
        for key, word in UNSAID.items():
            if getattr(sampling, key):
                self._notes.add(f"{word}: not sent, Anthropic has no such parameter")
        if sampling.n is not None and sampling.n > 1:
            self._notes.add(f"n: one answer instead of {sampling.n}, Anthropic gives one at a time")

    def _thinks(self) -> bool | None:
        reasoning = self._conversation.reasoning
        asked = efforts.thinks(reasoning)
        own = self._conversation.read_by(NAME) is not None and "reasoning" not in self._conversation.changed
        return None if own and reasoning.enabled is None and asked else asked  # its `effort` asks for no thinking

    def thinking(self) -> dict[str, Json]:
        reasoning, facts = self._conversation.reasoning, self._target.facts
        thinks = self._thinks()
        if thinks is None:
            return {}
        if facts.reasoning == "none":
            if thinks:
                self._notes.add(f"reasoning: not sent, {self._target.model} does not reason")
            return {}
        if not thinks:
            if not facts.can_disable_reasoning:
                self._notes.add(f"reasoning: {self._target.model} always thinks")
                return {}
            return {"thinking": {"type": facts.reasoning_off}}
        if facts.reasoning == "adaptive":  # newer models leave the text out unless told
            display = "omitted" if reasoning.summary is False else "summarized"
            return {"thinking": {"type": "adaptive", "display": display}}
        return {"thinking": {"type": "enabled", "budget_tokens": self._budget()}}

    def _budget(self) -> int:
        """Tokens for thinking; an effort leaves half of what was asked for to the answer (TRAPS T59, T61)."""
        reasoning, facts = self._conversation.reasoning, self._target.facts
        asked = self._conversation.sampling.max_tokens
        if (budget := efforts.budget(reasoning, facts, self._target, self._notes)) is None:
            budget = efforts.TOKENS["medium"]
        if asked is not None and (reasoning.budget or 0) <= 0:
            budget = min(budget, asked // 2)
        return max(MIN_BUDGET, facts.min_budget, budget)

    def effort(self) -> dict[str, Json]:
        """`output_config.effort`; models whose thinking is adaptive take no other measure."""
        reasoning, facts = self._conversation.reasoning, self._target.facts
        said = efforts.says_how_hard(reasoning) if facts.reasoning == "adaptive" else reasoning.effort is not None
        if not facts.efforts and facts.reasoning != "adaptive":
            if self._thinks() is None and reasoning.effort:
                self._notes.add(f"effort {reasoning.effort}: not sent, {self._target.model} has no such setting")
            return {}
        if efforts.thinks(reasoning) is False or not said:
            if facts.can_disable_reasoning or efforts.thinks(reasoning) is not False:
                return {}
            return {"effort": efforts.nearest("minimal", facts.efforts or CLAUDES)}
        return {"effort": efforts.effort(reasoning, facts.efforts or CLAUDES, self._target, self._notes)}

    def output(self) -> dict[str, Json]:
        output = self._conversation.output
        if output is None or output.kind != "json_schema":
            return {}
        own = output.read_by(NAME)
        return {"format": own if own is not None else self._format(output)}

    def _format(self, output: OutputFormat) -> Json:
        schema = output_schema(dict(output.schema or {"type": "object"}))
        if schema != output.schema:
            self._notes.add("output schema: limits that Anthropic does not know are left out, objects are closed")
        return {"type": "json_schema", "schema": schema}

    def format_instruction(self) -> list[dict[str, Json]]:
        """JSON without a schema can only be asked for in words; OpenAI wants its clients to do so anyway."""
        conversation = self._conversation
        output = conversation.output
        if output is None or output.kind != "json_object":
            return []
        self._notes.add("response_format json_object: asked for in words")
        instructions = "".join(part.text for part in conversation.system if isinstance(part, Text))
        said = any("json" in text.lower() for text in (instructions, *(m.text for m in conversation.messages)))
        return [] if said else [{"type": "text", "text": JSON_ONLY}]

    def settle(self, body: dict[str, Json]) -> None:
        """What Anthropic refuses together: thinking with other sampling, a forced tool, too few tokens."""
        thinking = body.get("thinking") or {}
        if thinking.get("type") in (None, "disabled"):
            return
        if thinking["type"] == "enabled":
            if self._target.vendor != "anthropic" and _lacks_thinking(body["messages"]):
                del body["thinking"]
                self._notes.add("reasoning: off for this turn, the turn before came without its thinking")
                return
            self._fit_budget(body)
            if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):  # T20: adaptive takes it
                kept = {k: v for k, v in body["tool_choice"].items() if k == "disable_parallel_tool_use"}
                body["tool_choice"] = {"type": "auto", **kept}
                self._notes.add("tool_choice: auto, no tool can be forced while thinking")
        for key, fits in (("temperature", body.get("temperature") == 1), ("top_k", False)):
            if key in body and not fits:
                del body[key]
                self._notes.add(f"{key}: not sent, it cannot be set while thinking")
        if (body.get("top_p") or 1) < MIN_TOP_P_THINKING:
            del body["top_p"]
            self._notes.add("top_p: not sent, it must be at least 0.95 while thinking")

    def _fit_budget(self, body: dict[str, Json]) -> None:
        """Budgets stay below `max_tokens` (TRAPS T59)."""
        thinking = body["thinking"]
        budget, most = thinking.get("budget_tokens") or MIN_BUDGET, body.get("max_tokens") or DEFAULT_MAX_TOKENS
        limit = self._target.facts.max_output
        if self._conversation.sampling.max_tokens is None:
            most = max(most, budget + DEFAULT_MAX_TOKENS)
            most = min(most, limit) if limit else most
        if budget >= most:
            self._notes.add("thinking budget: lowered, it must be below max_tokens")
            budget = max(MIN_BUDGET, most // 2)
        if budget >= most:
            self._notes.add("max_tokens: raised by the thinking budget, which is 1024 at least")
            most += budget
        if (budget, most) != (thinking.get("budget_tokens"), body.get("max_tokens")):
            body["thinking"] = {**thinking, "budget_tokens": budget}
            body["max_tokens"] = most


def _lacks_thinking(messages: list[Json]) -> bool:
    """Whether a turn with calls that is still going on does not begin with its thinking (TRAPS T52). Anthropic itself
    answers it without thinking ("graceful thinking degradation"), others with a 400."""
    if len(messages) < 2 or messages[-1]["role"] != "user" or messages[-2]["role"] != "assistant":
        return False
    last, before = messages[-1]["content"], messages[-2]["content"]
    if isinstance(last, str) or isinstance(before, str) or not before:
        return False
    answers = any(isinstance(block, dict) and block.get("type") == "tool_result" for block in last)
    first = before[0].get("type") if isinstance(before[0], dict) else "text"
    return answers and first not in ("thinking", "redacted_thinking")
