"""Tools, tool choice and `generationConfig` of a generateContent request, written from canonical values.

Schemas go as JSON Schema (`parametersJsonSchema`, `responseJsonSchema`, TRAPS T42) to Google itself, and in the older
dialect to whoever else speaks this protocol.
"""

from collections.abc import Mapping
from typing import Any

from llm_interactive.conversation import Conversation, Opaque, OutputFormat, Tool
from llm_interactive.errors import CannotExpress
from llm_interactive.protocols import efforts
from llm_interactive.protocols.base import Json, Notes, Target
from llm_interactive.protocols.gemini_errors import NAME
from llm_interactive.protocols.gemini_schema import to_gemini

SAMPLING = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "n": "candidateCount",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
    "top_logprobs": "logprobs",
    "stop": "stopSequences",
}

LEVELS = ("minimal", "low", "medium", "high")
SEARCH = "web_search"
"""How others' names for their search begin ("web_search_20250305", "web_search_preview")."""
MAX_STOPS = 5
MAX_CANDIDATES = 8


class ConfigWriter:
    """One request being written: where it goes, what is noted, which tools are renamed."""

    def __init__(self, conversation: Conversation, target: Target, notes: Notes, names: Mapping[str, str]) -> None:
        self.conversation = conversation
        self.target = target
        self.notes = notes
        self.names = names

    def name(self, name: str) -> str:
        return self.names.get(name, name)

    def tools(self) -> dict[str, Json]:
        declarations: list[Json] = []
        others: list[Json] = []
        for tool in self.conversation.tools:
            own = tool.read_by(NAME)
            if isinstance(tool, Tool):
                declarations.append(own if own is not None else self._declaration(tool))
            elif own is not None:
                others.append(own)
            else:
                others += self._server_tool(tool)
        if not declarations and not others and self.conversation.tools:
            what = ", ".join(tool.what for tool in self.conversation.tools if isinstance(tool, Opaque))
            raise CannotExpress(f"the tool {what} is run by its own provider only", param="tools")
        written = [{"functionDeclarations": declarations}] if declarations else []
        return {"tools": written + others} if written or others else {}

    def _server_tool(self, tool: Opaque) -> list[Json]:
        functions = any(isinstance(other, Tool) for other in self.conversation.tools)
        if not tool.what.startswith(SEARCH):
            self.notes.add(f"tool {tool.what}: not sent, only its own provider runs it")
        elif functions and self.target.facts.reasoning != "level":  # T27
            self.notes.add(f"tool {tool.what}: not sent, {self.target.model} takes no search beside functions")
        else:
            return [{"googleSearch": {}}]
        return []

    def _declaration(self, tool: Tool) -> Json:
        written: dict[str, Json] = {"name": self.name(tool.name)}
        if tool.description:
            written["description"] = tool.description
        if tool.custom:
            described = {"type": "string", "description": _grammar(tool.format)}
            schema: dict[str, Json] = {"type": "object", "properties": {"input": described}, "required": ["input"]}
        else:
            schema = dict(tool.schema or {})
        if not any(
            schema.get(key) for key in ("properties", "anyOf", "oneOf", "allOf", "$ref", "additionalProperties")
        ):
            return written
        if self.target.vendor == NAME:
            written["parametersJsonSchema"] = (
                schema if "type" in schema or "$ref" in schema else {"type": "object", **schema}
            )
        else:
            written["parameters"] = to_gemini(schema)
        return written

    def tool_choice(self) -> dict[str, Json]:
        """Search beside functions, which only Gemini 3 has, must be switched on too."""
        return self._choice() | (
            {"includeServerSideToolInvocations": True} if self._searches_beside_functions() else {}
        )

    def _searches_beside_functions(self) -> bool:
        tools = self.conversation.tools
        searches = any(isinstance(t, Opaque) and t.read_by(NAME) is None and t.what.startswith(SEARCH) for t in tools)
        functions = any(isinstance(tool, Tool) for tool in tools)
        return searches and functions and self.target.facts.reasoning == "level"

    def _choice(self) -> dict[str, Json]:
        choice = self.conversation.tool_choice
        if choice is None:
            return {}
        own = choice.read_by(NAME)
        if own is not None:
            return {"functionCallingConfig": own}
        if choice.parallel is False:
            self.notes.add("parallel_tool_calls: not sent, Gemini has no such switch")
        if choice.mode is None or not any(isinstance(tool, Tool) for tool in self.conversation.tools):
            return {}
        allowed = [self.name(name) for name in ((choice.name,) if choice.mode == "named" else choice.allowed) if name]
        modes = {"auto": "VALIDATED" if allowed else "AUTO", "none": "NONE", "required": "ANY", "named": "ANY"}
        config: dict[str, Json] = {"mode": modes[choice.mode]}
        if allowed and choice.mode != "none":
            config["allowedFunctionNames"] = allowed
        return {"functionCallingConfig": config}

    def sampling(self) -> dict[str, Json]:
        sampling = self.conversation.sampling
        values: dict[str, Any] = {
            name: value for name in SAMPLING if (value := getattr(sampling, name)) not in (None, ())
        }
        efforts.fit_sampling(values, self.conversation, self.target, self.notes)
        if sampling.logit_bias:
            self.notes.add("logit_bias: not sent, Gemini has no such parameter")
        if len(sampling.stop) > MAX_STOPS:
            self.notes.add(f"stop: only the first {MAX_STOPS} of {len(sampling.stop)} sequences are sent")
        if "stop" in values:
            values["stop"] = list(sampling.stop[:MAX_STOPS])
        if "seed" in values:
            values["seed"] &= 0x7FFFFFFF  # an int32 here
        if values.get("n", 0) > MAX_CANDIDATES:
            self.notes.add(f"n: {MAX_CANDIDATES} at most")
            values["n"] = MAX_CANDIDATES
        if not values.get("logprobs"):
            values.pop("top_logprobs", None)
            values.pop("logprobs", None)
        if values.get("n") == 1:
            del values["n"]
        if values.get("top_logprobs") == 0:
            del values["top_logprobs"]
        return {SAMPLING[name]: value for name, value in values.items()}

    def reasoning(self) -> dict[str, Json]:
        reasoning, facts = self.conversation.reasoning, self.target.facts
        asked = efforts.thinks(reasoning)
        if asked is None:
            return {"thinkingConfig": {"includeThoughts": True}} if self._only_wants_to_read() else {}
        if facts.reasoning == "none":
            if asked:
                self.notes.add(f"reasoning: not sent, {self.target.model} does not reason")
            return {}
        if reasoning.enabled is None and reasoning.budget is None and facts.reasoning != "level":
            # Claude's effort without thinking: on models that can do without, a budget would ask for thinking
            self.notes.add("effort: not sent, no thinking was asked for")
            return {}
        config = self._level(asked) if facts.reasoning == "level" else self._budget(asked)
        if asked and reasoning.summary is not False:
            config["includeThoughts"] = True
        return {"thinkingConfig": config} if config else {}

    def _only_wants_to_read(self) -> bool:
        """How hard to think is left to the model."""
        reasons = self.target.facts.reasoning in ("level", "budget")
        return self.conversation.reasoning.summary is True and reasons

    def _level(self, on: bool) -> dict[str, Json]:
        reasoning, facts = self.conversation.reasoning, self.target.facts
        taken = facts.efforts or LEVELS
        if not on:
            found = efforts.nearest("minimal", taken)
            self.notes.add(f"reasoning: {self.target.model} cannot switch it off, level {found} is asked for")
        elif not efforts.says_how_hard(reasoning):
            return {}
        else:
            found = efforts.effort(reasoning, taken, self.target, self.notes)
        return {"thinkingLevel": found.upper()}

    def _budget(self, on: bool) -> dict[str, Json]:
        """Thinking counts in `maxOutputTokens`: an effort leaves half of it to the answer (TRAPS T59, T61)."""
        reasoning, facts = self.conversation.reasoning, self.target.facts
        if not on:
            if facts.can_disable_reasoning:
                return {"thinkingBudget": 0}
            self.notes.add(f"reasoning: {self.target.model} cannot switch it off, the smallest budget is asked for")
            return {"thinkingBudget": facts.min_budget}
        budget = efforts.budget(reasoning, facts, self.target, self.notes)
        if budget is None:
            return {"thinkingBudget": -1}
        limit = self.conversation.sampling.max_tokens
        if limit is not None:
            most = max(facts.min_budget, limit - 1 if reasoning.budget else limit // 2)
            if budget > most:
                self.notes.add(f"thinking budget {budget} -> {most}: it must be below max_tokens")
            budget = min(budget, most)
        return {"thinkingBudget": budget}

    def output(self) -> dict[str, Json]:
        output: OutputFormat | None = self.conversation.output
        if output is None or output.kind == "text":
            return {}
        written: dict[str, Json] = {"responseMimeType": "application/json"}
        if output.kind == "json_schema" and output.schema is not None:
            if self.target.vendor == NAME:
                written["responseJsonSchema"] = dict(output.schema)
            else:
                written["responseSchema"] = to_gemini(output.schema)
        return written


def _grammar(format_: Json) -> str:
    match format_:
        case {"definition": str(definition)}:
            return f"Plain text that follows this grammar:\n{definition}"
        case {"grammar": {"definition": str(definition)}}:
            return f"Plain text that follows this grammar:\n{definition}"
    return "Plain text"
