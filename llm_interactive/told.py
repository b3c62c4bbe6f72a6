"""What people are told of a request's attempts: in the log and beside the flow."""

from collections.abc import Iterable, Sequence

from llm_interactive.backends.catalog import SAME_SERVICE
from llm_interactive.conversation import Conversation
from llm_interactive.loops import CHARACTERS_PER_TOKEN
from llm_interactive.models import facts
from llm_interactive.walk import Try


def summary(protocol: str, tries: Sequence[Try], notes: Iterable[str] = ()) -> str:
    """One line for the flow's comment: `frontend → backend/model · tokens in/out · ttft · what was changed`."""
    last = tries[-1]
    said = [f"{protocol} → {last.attempt.backend.name}/{last.attempt.model}"]
    if last.usage is not None and last.usage.output is not None:
        said.append(f"{last.usage.input or 0} in / {last.usage.output} out")
    if last.first is not None:
        said.append(f"first token after {last.first - last.begun:.2f} s")
    if last.error:
        said.append(f"{last.status or ''} {last.error}".strip()[:200])
    said += [try_.stop.note for try_ in tries if try_.stop is not None]
    return " · ".join([*said, *notes])


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
