"""What people are told of a request's attempts: in headers, in the log and beside the flow."""

from collections.abc import Iterable, Sequence

from llm_interactive.backends.catalog import SAME_SERVICE
from llm_interactive.conversation import Conversation
from llm_interactive.headers import one_line
from llm_interactive.loops import CHARACTERS_PER_TOKEN
from llm_interactive.models import facts
from llm_interactive.walk import Try, Walk


def headers(walk: Walk, confirmations: Sequence[str], notes: Iterable[str]) -> list[tuple[str, str]]:
    """What the client may want to know of how it came to its answer."""
    found: dict[str, str] = {}
    if walk.tries:
        last = walk.tries[-1].attempt
        found["backend"] = f"{last.backend.name}:{last.model}"
    found["commands"], found["notes"] = "; ".join(confirmations), "; ".join(notes)
    lines = walk.lines()
    if len(lines) > 1 or walk.error is not None:
        found["attempts"] = "; ".join(lines)
    return [(f"x-llm-proxy-{name}", one_line(text)) for name, text in found.items() if text]


def summary(protocol: str, tries: Sequence[Try], notes: Iterable[str] = ()) -> str:
    """One line for the flow's comment: `frontend → backend/model · tokens in/out · ttft · what was changed`."""
    last = tries[-1]
    said = [f"{protocol} → {last.attempt.backend.name}/{last.attempt.model}"]
    if last.usage is not None and last.usage.output is not None:
        said.append(f"{last.usage.input or 0} in / {last.usage.output} out")
    if last.cost is not None:
        said.append(f"${last.cost:.6f}")
    if last.first is not None:
        said.append(f"first token after {last.first - last.begun:.2f} s")
    if last.error:
        said.append(f"{last.status or ''} {last.error}".strip()[:200])
    said += [try_.stop.note for try_ in tries if try_.stop is not None]
    return " · ".join([*said, *notes])


def asked(session_id: str, model: str | None) -> dict[str, str]:
    """What filters can ask of a flow before it is answered (`~meta "llm_model: gpt"`): plain data, which is saved."""
    return {"llm_session": session_id.partition("/")[2], "llm_asked": model or ""}


def metadata(tries: Sequence[Try]) -> dict[str, str | int | float]:
    """The same of a flow that is over, of at least one attempt; what is not known is left out."""
    last = tries[-1]
    found: dict[str, str | int | float | None] = {
        "llm_backend": last.attempt.backend.name,
        "llm_model": last.attempt.model,
        "llm_attempts": len(tries),
        "llm_input": last.usage.input if last.usage is not None else None,
        "llm_output": last.usage.output if last.usage is not None else None,
        "llm_cost": float(last.cost) if last.cost is not None else None,
        "llm_end": "loop" if last.stop is not None else last.reason.unified if last.reason is not None else None,
        "llm_error": last.error,
    }
    return {name: value for name, value in found.items() if value is not None}


def stopped(try_: Try, session: str, conversation: Conversation | None) -> str:
    """Why a reply was ended early, what it had written, and how much more it could have."""
    attempt = try_.attempt
    said = [try_.stop.note] if try_.stop is not None else []
    if conversation is not None and conversation.stream:
        vendor = SAME_SERVICE.get(attempt.backend.name, attempt.backend.name)
        limit = conversation.sampling.max_tokens or facts(vendor, attempt.model).max_output
        written = sum(map(len, try_.said)) // CHARACTERS_PER_TOKEN
        saved = f", up to {limit - written} more saved" if limit is not None and limit > written else ""
        said.append(f"the backend's reply was cancelled after about {written} tokens{saved}")
    return f"{attempt.backend.name}:{attempt.model}, session {session}: {'; '.join(said)}"
