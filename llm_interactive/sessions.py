"""What commands change: the state of each session, and the server's own values (SPEC 4).

A session's id is a name that the client chose, within its key: two keys never share one. Sessions are kept in memory,
bounded, and written behind through a `Store`, so that they survive a restart; after seven idle days they are forgotten.
All of it belongs to one event loop; the store's calls run in a thread of their own.
"""

import asyncio
import hashlib
import logging
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol, Self
from weakref import WeakValueDictionary

from llm_interactive import thoughts, wire_json
from llm_interactive.config_file import FailoverRoute
from llm_interactive.conversation import Conversation, Thinking, ToolCall
from llm_interactive.thoughts import Thought

log = logging.getLogger(__name__)

type Json = Any
type Row = tuple[str, float, bytes]
"""A session as it is stored: id, when it was last used (seconds since the epoch), its state as JSON."""

HEADERS = ("x-session-id", "x-claude-code-session-id", "session_id", "session-id")
DEFAULT = "default"
LONGEST_NAME = 200
IDLE_SECONDS = 7 * 24 * 3600.0
FRESH_SECONDS = 3600.0
"""A session that is only used is written no more often, so that it does not look idle after a restart."""
SWEEP_SECONDS = 24 * 3600.0
MOST_IN_MEMORY = 1000
MOST_THOUGHTS = 500
MOST_THOUGHT_BYTES = 1024 * 1024
"""Of one session. Past a limit the older half is forgotten at once: a history that changes at its start with every turn
would miss every prompt cache."""
MOST_OWN_ANSWERS = 200
TROUBLE = (OSError, sqlite3.Error)
SERVER = ""
"""The server's values among ids of sessions."""
NO_ROW: Row = ("", 0.0, b"")


def session_id(headers: Mapping[str, str], body: Mapping[str, Json], client: str = "") -> str:
    """`client/name`: the first name that is present (SPEC 4), else "default". `headers` have lower-case names; `client`
    is a short hash of the client's key."""
    candidates = [headers.get(name) for name in HEADERS]
    metadata = body.get("metadata")
    candidates.append(metadata.get("user_id") if isinstance(metadata, dict) else None)
    candidates.append(body.get("prompt_cache_key"))
    name = next((name for name in candidates if isinstance(name, str) and name.strip()), DEFAULT).strip()
    if len(name) > LONGEST_NAME or not name.isprintable():
        name = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{client}/{name}"


@dataclass(slots=True, eq=False, weakref_slot=True)
class Session:
    """None: not set, what stands below holds. `used`: seconds since the epoch. All but the first two is stored."""

    id: str
    used: float = 0.0
    model: str | None = None
    """`backend:model`, or the name of a route."""
    backend: str | None = None
    oneoff: str | None = None
    project: str | None = None
    project_dir: str | None = None
    interactive: bool | None = None
    temperature: float | None = None
    reasoning_effort: str | None = None
    reasoning: dict[str, Json] | None = None
    thinking_budget: int | None = None
    generation_config: dict[str, Json] | None = None
    show_reasoning: bool | None = None
    """Whether it stands in the text of answers."""
    openai_url: str | None = None
    loop_detection: bool | None = None
    tool_loop_detection: bool | None = None
    tool_loop_max_repeats: int | None = None
    tool_loop_ttl: int | None = None
    tool_loop_mode: str | None = None
    aliases: dict[str, str] = field(default_factory=dict)
    tool_loop: dict[str, Json] | None = None
    """The detector's state."""
    thoughts: dict[str, Json] = field(default_factory=dict)
    """Tool-call id -> what stood before the call, oldest first."""
    own_answers: list[str] = field(default_factory=list)
    """Digests of commands with the error that the proxy answered in place of a model."""

    @property
    def name(self) -> str:
        """What the client calls it."""
        return self.id.partition("/")[2]

    @property
    def is_default(self) -> bool:
        """The client names none: independent conversations may be in it."""
        return self.name == DEFAULT

    def take_oneoff(self) -> str | None:
        """The route of this prompt alone: it is gone then, whatever becomes of the prompt."""
        oneoff, self.oneoff = self.oneoff, None
        return oneoff

    def copy(self) -> Self:
        """A draft to change; its values are replaced, never changed in place, until `take` brings them here."""
        return replace(self)

    def take(self, draft: "Session") -> None:
        for name in _STATE:
            setattr(self, name, getattr(draft, name))

    def remember_own_answer(self, digest: str) -> None:
        self.own_answers = [*(known for known in self.own_answers if known != digest), digest][-MOST_OWN_ANSWERS:]

    def to_json(self) -> dict[str, Json]:
        """What is set."""
        return {name: value for name in _STATE if (value := getattr(self, name)) not in (None, {}, [])}

    @classmethod
    def from_json(cls, id_: str, used: float, state: Json) -> Self:
        """What another version wrote and this one does not know is left out."""
        known = state if isinstance(state, dict) else {}
        return cls(id_, used, **{name: known[name] for name in _STATE if name in known})


_STATE = tuple(each.name for each in fields(Session) if each.name not in ("id", "used"))


@dataclass(slots=True, eq=False)
class Server:
    """Values for everybody, which commands set and a restart keeps. None: as configured."""

    default_backend: str | None = None
    redact: bool | None = None
    command_prefix: str | None = None
    former_prefixes: list[str] = field(default_factory=list)
    """Newest last: histories still hold commands that were typed with them."""
    routes: dict[str, FailoverRoute | None] = field(default_factory=dict)
    """By name, in the order of their making; None hides a configured one."""

    def copy(self) -> Self:
        return replace(self)

    def take(self, draft: "Server") -> None:
        for name in _SERVER:
            setattr(self, name, getattr(draft, name))

    def to_json(self) -> dict[str, Json]:
        routes = {name: route and {"policy": route.policy, "elements": [*route.elements]}
                  for name, route in self.routes.items()}  # fmt: skip
        return {name: getattr(self, name) for name in _SERVER} | {"routes": routes}

    @classmethod
    def from_json(cls, values: Mapping[str, Json]) -> Self:
        known = {name: values[name] for name in _SERVER if name in values}
        routes = known.get("routes") or {}
        known["routes"] = {name: FailoverRoute.model_validate(route) if route else None
                           for name, route in routes.items()}  # fmt: skip
        return cls(**known)


_SERVER = tuple(each.name for each in fields(Server))


def remember_thoughts(session: Session, found: Mapping[str, Thought]) -> None:
    """By tool-call id: reasoning that has to come back with the call (thoughts.py)."""
    if not found:
        return
    known = {id_: thought for id_, thought in session.thoughts.items() if id_ not in found}
    known |= {id_: _thought_to_json(thought) for id_, thought in found.items()}
    if len(known) > MOST_THOUGHTS or len(wire_json.dumps(known)) > MOST_THOUGHT_BYTES:
        kept: list[str] = []
        size = 0
        for id_ in reversed(known):
            size += len(wire_json.dumps(known[id_]))
            if len(kept) >= MOST_THOUGHTS // 2 or size > MOST_THOUGHT_BYTES // 2:
                break
            kept.append(id_)
        known = {id_: known[id_] for id_ in reversed(kept)}
    session.thoughts = known


def forget_thoughts(session: Session, conversation: Conversation) -> None:
    """Those that belong to its calls: they were refused."""
    calls = conversation.call_names()
    session.thoughts = {id_: thought for id_, thought in session.thoughts.items() if id_ not in calls}


def restore_thoughts(session: Session, conversation: Conversation) -> Conversation:
    """With the reasoning that the client left out; the same object where nothing is missing."""
    if not session.thoughts:
        return conversation
    calls = (part for message in conversation.messages for part in message.parts if isinstance(part, ToolCall))
    known = {call.id: _thought_from_json(session.thoughts[call.id]) for call in calls if call.id in session.thoughts}
    return thoughts.restored(conversation, known)


def _thought_to_json(thought: Thought) -> Json:
    parts = [{name: value for name, value in asdict(part).items() if name != "source" and value}
             for part in thought.parts]  # fmt: skip
    return {"parts": parts, "signature": thought.signature}


def _thought_from_json(stored: Json) -> Thought:
    return Thought(tuple(Thinking(**part) for part in stored["parts"]), stored["signature"])


class Store(Protocol):
    """Blocks, and raises OSError or sqlite3.Error."""

    def load(self, id_: str) -> Row | None: ...
    def save(self, rows: Sequence[Row]) -> None: ...
    def forget(self, before: float) -> None: ...
    def load_server(self) -> Mapping[str, Json]: ...
    def save_server(self, values: Mapping[str, Json]) -> None: ...
    def close(self) -> None: ...


class Sessions:
    """`clock`: seconds since the epoch. `delay`: seconds until a change is written; `patience`: seconds that somebody
    waits for the store at most; `retry_after`: seconds between attempts to read what could not be read. While the store
    fails, everything goes on in memory and is written later."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        delay: float = 1.0,
        patience: float = 2.0,
        retry_after: float = 10.0,
        capacity: int = MOST_IN_MEMORY,
    ) -> None:
        self.server = Server()
        self.trouble: str | None = None
        """Why the store failed last; None once it works again."""
        self._store = store
        self._clock = clock
        self._delay = delay
        self._patience = patience
        self._capacity = capacity
        self._thread = ThreadPoolExecutor(1, "sessions")
        self._recent: OrderedDict[str, Session] = OrderedDict()
        self._live: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._opening: dict[str, asyncio.Task[Session]] = {}
        self._dirty: dict[str, Session] = {}
        self._server_is_dirty = False
        self._writing: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._swept = -IDLE_SECONDS
        self._unread: set[str] = set()
        self._retry_after = retry_after
        self._retry_at = 0.0

    async def start(self) -> None:
        """Reads the server's values."""
        values = await self._read(self._store.load_server)
        if values is None:
            self._unread.add(SERVER)
            return
        self._unread.discard(SERVER)
        if self.server.to_json() == Server().to_json():
            self.server.take(Server.from_json(values))

    async def open(self, id_: str) -> Session:
        """The session of that id, made where there is none. Whoever opens it meanwhile gets the same object."""
        session = self._live.get(id_) or await self._load(id_)
        if self._unread and asyncio.get_running_loop().time() >= self._retry_at:
            await self._read_again(session)
        now = self._clock()
        if now - session.used > IDLE_SECONDS:
            session.take(Session(id_))
        elif now - session.used > FRESH_SECONDS and session.to_json():
            self.changed(session)
        session.used = now
        self._recent[id_] = session
        self._recent.move_to_end(id_)
        while len(self._recent) > self._capacity:
            self._recent.popitem(last=False)
        return session

    def latest(self, name: str | None = None) -> Session | None:
        """The session that was used last, of that name if one is given, among those in memory."""
        return next((each for each in reversed(self._recent.values()) if name in (None, each.name)), None)

    def changed(self, session: Session, *, server: bool = False) -> None:
        """To be written before long (`server`: the server's values too)."""
        self._dirty[session.id] = session
        self._server_is_dirty = self._server_is_dirty or server
        self._plan_write()

    async def keep(self, session: Session, *, server: bool = False) -> str | None:
        """Write what a command changed (`server`: the server's values too). Returns why it is not on disk, if so."""
        self._dirty[session.id] = session
        self._server_is_dirty = self._server_is_dirty or server
        await self._flush()
        return self.trouble

    async def close(self) -> None:
        """Write what is left, and end."""
        if self._timer is not None:
            self._timer.cancel()
        await self._flush()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.submit(self._store.close)
        self._thread.shutdown(wait=False)

    async def _load(self, id_: str) -> Session:
        opening = self._opening.get(id_)
        if opening is None:
            opening = self._opening[id_] = asyncio.create_task(self._make(id_))
            opening.add_done_callback(lambda _: self._opening.pop(id_, None))
        return await asyncio.shield(opening)

    async def _make(self, id_: str) -> Session:
        session = Session(id_, self._clock())
        await self._fill(session)
        self._live[id_] = session
        return session

    async def _fill(self, session: Session) -> None:
        """With what is stored of it, unless something was set meanwhile."""
        row = await self._read(lambda: self._store.load(session.id) or NO_ROW)
        if row is None:
            self._unread.add(session.id)
            return
        self._unread.discard(session.id)
        if row is NO_ROW or session.to_json():
            return
        try:
            stored = Session.from_json(session.id, row[1], wire_json.loads(row[2]))
        except ValueError as error:
            log.error("a stored session cannot be read and begins anew: %s", error)
            return
        session.take(stored)
        session.used = stored.used

    async def _read_again(self, session: Session) -> None:
        """What could not be read when it was wanted, before an empty one is written over it."""
        self._retry_at = asyncio.get_running_loop().time() + self._retry_after
        if SERVER in self._unread:
            await self.start()
        if session.id in self._unread:
            await self._fill(session)

    async def _read[T](self, read: Callable[[], T]) -> T | None:
        """None where the store fails."""
        future = asyncio.get_running_loop().run_in_executor(self._thread, read)
        try:
            return await asyncio.wait_for(future, self._patience)
        except TimeoutError:
            self._failed("it does not answer")
        except TROUBLE as error:
            self._failed(str(error))
        return None

    def _plan_write(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._write_now)

    def _write_now(self) -> None:
        self._timer = None
        self._flushing = asyncio.create_task(self._flush())

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while self._writing is not None or self._dirty or self._server_is_dirty:
            writing = self._writing or self._begin_write()
            done, _ = await asyncio.wait({writing}, timeout=max(0.0, deadline - loop.time()))
            if not done:
                self._failed("it does not answer")
            if self.trouble is not None:
                self._plan_write()
                return

    def _begin_write(self) -> "asyncio.Future[None]":
        sessions, self._dirty = self._dirty, {}
        rows = [(each.id, each.used, wire_json.dumps(each.to_json())) for each in sessions.values()]
        server = self.server.to_json() if self._server_is_dirty else None
        self._server_is_dirty = False
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._save, rows, server, self._clock())

        def written(future: "asyncio.Future[None]") -> None:
            self._writing = None
            error = future.exception()
            if error is None:
                self._works()
                return
            self._dirty = {**sessions, **self._dirty}
            self._server_is_dirty = self._server_is_dirty or server is not None
            self._failed(str(error))

        writing.add_done_callback(written)
        self._writing = writing
        return writing

    def _save(self, rows: Sequence[Row], server: Mapping[str, Json] | None, now: float) -> None:
        """Runs in the thread."""
        if rows:
            self._store.save(rows)
        if server is not None:
            self._store.save_server(server)
        if now - self._swept > SWEEP_SECONDS:
            self._store.forget(now - IDLE_SECONDS)
            self._swept = now

    def _works(self) -> None:
        if self.trouble is not None:
            log.warning("sessions are written again")
        self.trouble = None

    def _failed(self, why: str) -> None:
        if self.trouble is None:
            log.error("the database of sessions fails (%s): they are kept in memory until it works again", why)
        self.trouble = why
