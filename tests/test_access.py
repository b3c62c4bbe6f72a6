"""SPEC 3: who may use the gateway."""

from pathlib import Path

import pytest

from llm_interactive import access
from llm_interactive.access import Visit
from llm_interactive.errors import Forbidden, NotAuthenticated, ProxyError
from llm_interactive.settings import Settings, load

KEY, OTHER = "client-key-0123456789", "another-key-0123456789"
PLACES = (
    ({"authorization": "Bearer {}"}, ""),
    ({"authorization": "bearer  {}"}, ""),
    ({"authorization": "{}"}, ""),
    ({"x-api-key": "{}"}, ""),
    ({"x-goog-api-key": "{}"}, ""),
    ({}, "key={}"),
    ({}, "alt=sse&key={}"),
)


def settings(**environment: str) -> Settings:
    return load({}, environment, Path("/nonexistent"))


OPEN = settings()
CLOSED = settings(LLM_INTERACTIVE_PROXY_API_KEY=f"{OTHER},{KEY}")


def outcome(visit: Visit, given: Settings) -> type[ProxyError] | None:
    try:
        access.check(visit, given)
    except ProxyError as error:
        return type(error)
    return None


@pytest.mark.parametrize(("headers", "query"), PLACES)
@pytest.mark.parametrize(("key", "expected"), [(KEY, None), (OTHER, None), ("wrong", NotAuthenticated)])
def test_a_key_counts_in_any_of_its_places(headers: dict[str, str], query: str, key: str, expected: object) -> None:
    filled = {name: value.format(key) for name, value in headers.items()}
    assert outcome(Visit("203.0.113.7", filled, query.format(key)), CLOSED) is expected


def test_one_right_key_among_wrong_ones_is_enough() -> None:
    assert outcome(Visit("203.0.113.7", {"authorization": "Bearer sk-own", "x-api-key": KEY}), CLOSED) is None


@pytest.mark.parametrize("given", ["", KEY[:-1], KEY + "x", KEY.upper(), f"{OTHER},{KEY}", "\udcff", "ключ"])
def test_nothing_but_the_key_is_the_key(given: str) -> None:
    assert outcome(Visit("127.0.0.1", {"x-api-key": given}), CLOSED) is NotAuthenticated


def test_the_error_says_what_to_do_and_nothing_else() -> None:
    with pytest.raises(NotAuthenticated, match="no key was sent") as missing:
        access.check(Visit("127.0.0.1", {}), CLOSED)
    with pytest.raises(NotAuthenticated, match="the key is wrong") as wrong:
        access.check(Visit("127.0.0.1", {"x-api-key": "x"}), CLOSED)
    for caught in (missing, wrong):
        assert KEY not in caught.value.message
        assert caught.value.status == 401


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_without_a_key_only_this_machine(peer: str) -> None:
    assert outcome(Visit(peer, {}), OPEN) is None


@pytest.mark.parametrize(
    "peer", ["192.0.2.1", "::ffff:192.0.2.1", "fe80::1%eth0", "", "127.0.0.1.example", "localhostx"]
)
def test_without_a_key_nobody_else(peer: str) -> None:
    assert outcome(Visit(peer, {}), OPEN) is Forbidden


def test_disabled_authentication_is_for_this_machine_alone() -> None:
    given = settings(LLM_INTERACTIVE_PROXY_API_KEY=KEY, DISABLE_AUTH="true")
    assert outcome(Visit("127.0.0.1", {}), given) is None
    assert outcome(Visit("192.0.2.1", {"x-api-key": KEY}), given) is Forbidden


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"host": "127.0.0.1:8000"}, None),
        ({"host": "localhost:8000"}, None),
        ({"host": "[::1]:8000"}, None),
        ({"host": "app.localhost:8000"}, None),
        ({"host": "rebound.example:8000"}, Forbidden),
        ({"host": "127.0.0.1.example"}, Forbidden),
        ({"host": "[::1"}, Forbidden),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, None),
        ({"host": "localhost:8000", "origin": "http://localhost:3000"}, Forbidden),
        ({"host": "localhost:8000", "origin": "https://evil.example"}, Forbidden),
        ({"host": "localhost:8000", "origin": "null"}, Forbidden),
        ({"host": "localhost:8000", "origin": ""}, Forbidden),
        ({"host": "localhost:8000", "origin": "http://["}, Forbidden),
        ({"origin": "://"}, Forbidden),
        ({"host": "localhost:8000", "sec-fetch-site": "cross-site"}, Forbidden),
        ({"host": "localhost:8000", "sec-fetch-site": "same-origin"}, None),
    ],
)
def test_no_page_of_another_site_gets_in(headers: dict[str, str], expected: object) -> None:
    assert outcome(Visit("127.0.0.1", headers), OPEN) is expected


def test_with_a_key_any_name_will_do_but_pages_stay_out() -> None:
    with_key = {"x-api-key": KEY, "host": "proxy.example"}
    assert outcome(Visit("192.0.2.1", with_key), CLOSED) is None
    assert outcome(Visit("192.0.2.1", with_key | {"origin": "http://["}), CLOSED) is Forbidden
    assert outcome(Visit("192.0.2.1", with_key | {"sec-fetch-site": "cross-site"}), CLOSED) is Forbidden
