import pytest
from pydantic import SecretStr

from llm_interactive.backends.catalog import ConfiguredBackend
from llm_interactive.config_file import FailoverRoute
from llm_interactive.errors import BadRequest, NotFound
from llm_interactive.protocols.base import Call
from llm_interactive.routing.choice import Choice, Naming, named
from llm_interactive.sessions import Server, Session


def backend(name: str, vendor: str = "openai") -> ConfiguredBackend:
    protocol = "gemini" if vendor == "gemini" else "openai_chat"
    headers = {"x-team": "secret"}
    return ConfiguredBackend(name, {protocol: f"https://{name}.example/v1"}, (SecretStr("k"),), headers, vendor)


BACKENDS = {name: backend(name) for name in ("openai", "groq", "demo")} | {"gemini": backend("gemini", "gemini")}
ROUTES = {"cheap": FailoverRoute(policy="m", elements=("groq:a", "openai:b"))}
NAMING = Naming.configured(ROUTES, {"fast": "groq:llama", "/^x/": "groq:x"}, None, ("own.example",))


def choice(session: Session, server: Server | None = None, caught: str | None = None) -> Choice:
    return Choice(NAMING, BACKENDS, server or Server(), session, caught)


def chosen(asked: str, session: Session, server: Server | None = None) -> list[str]:
    legs = choice(session, server).of(asked)
    return [f"{each.backend.name}:{each.model}" for leg in legs for each in leg.elements]


def test_one_off_then_session_then_request() -> None:
    session = Session("s", model="groq:session", oneoff="openai:once")
    assert chosen("gemini:asked", session) == ["openai:once"]
    session.take_oneoff()
    assert chosen("gemini:asked", session) == ["groq:session"]
    session.model, session.backend = None, "openai"
    assert chosen("gemini:asked", session) == ["openai:asked"]
    session.backend = None
    assert chosen("gemini:asked", session) == ["gemini:asked"]


def test_a_sessions_model_may_be_a_route_even_of_another_backend() -> None:
    session = Session("s", model="cheap", backend="gemini")
    assert chosen("x", session) == ["groq:a", "openai:b"]
    with pytest.raises(BadRequest, match="the route 'cheap' is gone"):
        chosen("x", session, Server(routes={"cheap": None}))


def test_commands_change_routes_and_the_default() -> None:
    server = Server(default_backend="groq", routes={"mine": FailoverRoute(policy="k", elements=("openai:m",))})
    assert chosen("mine", Session("s"), server) == ["openai:m"]
    assert chosen("gpt-4o", Session("s"), server) == ["groq:gpt-4o"]
    assert named(NAMING, server) == {"fast": "alias", "cheap": "route", "mine": "route"}


def test_aliases_of_the_chat_are_names_of_models_where_they_are_one_word() -> None:
    session = Session("s", aliases={"mine": "groq:own", "explain": "Explain the following:"})
    assert chosen("mine", session) == ["groq:own"]
    assert chosen("explain", session) == ["openai:explain"]


def test_an_own_url_gets_no_key_and_no_header() -> None:
    session = Session("s", openai_url="http://127.0.0.1:5/v1")
    [[element]] = [leg.elements for leg in choice(session).of("openai:m")]
    assert element.backend == ConfiguredBackend(
        "openai", {"openai_chat": "http://127.0.0.1:5/v1"}, allowed=("own.example",)
    )
    assert chosen("unheard-of", session) == ["openai:unheard-of"]
    assert chosen("groq:m", session) == ["groq:m"]


def test_an_own_url_at_the_configured_place_keeps_its_key() -> None:
    naming = Naming.configured({}, {}, None, ("openai.example",))
    session = Session("s", openai_url="https://openai.example/other/v1")
    [[element]] = [leg.elements for leg in Choice(naming, BACKENDS, Server(), session).of("openai:m")]
    assert element.backend.keys == BACKENDS["openai"].keys
    assert element.backend.protocols == {"openai_chat": "https://openai.example/other/v1"}


def test_an_own_url_that_is_not_allowed_any_more() -> None:
    with pytest.raises(BadRequest, match=r"openai_url=\S+gone\.example: the host gone\.example must be this machine"):
        choice(Session("s", openai_url="https://gone.example")).of("m")


def test_other_paths_go_to_a_backend_of_their_vendor() -> None:
    [leg] = choice(Session("s"), Server(default_backend="groq")).passed(Call("openai_chat", "other", "/v1/files"), None)
    assert [each.backend.name for each in leg.elements] == ["groq"]
    [leg] = choice(Session("s")).passed(Call("gemini", "other", "/v1beta/files"), "m")
    assert [(each.backend.name, each.model) for each in leg.elements] == [("gemini", "m")]
    with pytest.raises(NotFound, match="no backend that serves /v1/x is configured"):
        choice(Session("s")).passed(Call("anthropic_messages", "other", "/v1/x"), None)


def test_a_caught_call_stays_where_it_was_going_unless_it_is_sent_elsewhere() -> None:
    [leg] = choice(Session("s"), caught="groq").of("ft:gpt-4o:org")
    assert [(each.backend.name, each.model) for each in leg.elements] == [("groq", "ft:gpt-4o:org")]
    [leg] = choice(Session("s", model="openai:m"), caught="groq").of("ft:gpt-4o:org")
    assert [(each.backend.name, each.model) for each in leg.elements] == [("openai", "m")]
