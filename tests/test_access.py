"""SPEC 3: who may use the gateway."""

import base64
from pathlib import Path

import pytest

from llm_interactive import access
from llm_interactive.access import Visit, WrongKeys
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


def test_another_port_of_this_machine_is_another_site() -> None:
    assert outcome(Visit("127.0.0.1", {"host": "localhost:8000", "sec-fetch-site": "same-site"}), OPEN) is Forbidden
    assert outcome(Visit("127.0.0.1", {"host": "localhost:8000", "sec-fetch-site": "none"}), OPEN) is None


def test_the_address_that_the_operator_listens_on_is_a_name_of_this_machine() -> None:
    given = settings(PROXY_HOST="192.0.2.7")
    assert outcome(Visit("127.0.0.1", {"host": "192.0.2.7:8000"}), given) is None
    assert outcome(Visit("127.0.0.1", {"host": "192.0.2.8:8000"}), given) is Forbidden


def forwards(peer: str, authorization: str, given: Settings) -> type[ProxyError] | None:
    try:
        access.check_forward(peer, authorization, given)
    except ProxyError as error:
        return type(error)
    return None


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("peer", "authorization", "expected"),
    [
        ("127.0.0.1", "", None),
        ("::1", "Bearer wrong", None),
        ("192.0.2.1", "", NotAuthenticated),
        ("192.0.2.1", f"Bearer {KEY}", None),
        ("192.0.2.1", f"bearer {KEY}", None),
        ("192.0.2.1", basic(f"me:{KEY}"), None),
        ("192.0.2.1", basic(f"{KEY}:"), None),
        ("192.0.2.1", basic("me:wrong"), NotAuthenticated),
        ("192.0.2.1", basic(":"), NotAuthenticated),
        ("192.0.2.1", "Basic !!!", NotAuthenticated),
        ("192.0.2.1", "Basic \udcff", NotAuthenticated),
        ("192.0.2.1", KEY, NotAuthenticated),
        ("192.0.2.1", f"Digest {KEY}", NotAuthenticated),
    ],
)
def test_who_may_pass_through_to_other_hosts(peer: str, authorization: str, expected: object) -> None:
    assert forwards(peer, authorization, CLOSED) is expected


def test_without_a_key_nobody_else_passes_through() -> None:
    assert forwards("192.0.2.1", "", OPEN) is Forbidden
    disabled = settings(LLM_INTERACTIVE_PROXY_API_KEY=KEY, DISABLE_AUTH="true")
    assert forwards("192.0.2.1", f"Bearer {KEY}", disabled) is Forbidden


def test_the_proxy_asks_as_proxies_do() -> None:
    with pytest.raises(NotAuthenticated) as caught:
        access.check_forward("192.0.2.1", "", CLOSED)
    assert caught.value.status == 407
    assert [name for name, _ in caught.value.headers] == ["proxy-authenticate"]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_wrong_keys_wait_longer_and_longer() -> None:
    wrong = WrongKeys(Clock())
    pauses = [wrong.sent("192.0.2.1") for _ in range(WrongKeys.FREE + 7)]
    assert pauses == [0.0] * WrongKeys.FREE + [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert wrong.sent("192.0.2.2") == 0.0


def test_wrong_keys_are_forgotten() -> None:
    clock = Clock()
    wrong = WrongKeys(clock)
    for _ in range(WrongKeys.FREE + 3):
        wrong.sent("192.0.2.1")
    clock.now += WrongKeys.FORGOTTEN + 1
    assert wrong.sent("192.0.2.1") == 0.0


def test_guessing_in_parallel_gains_nothing() -> None:
    wrong = WrongKeys(Clock())
    for _ in range(WrongKeys.FREE + WrongKeys.MOST_WAITING):
        wrong.admit("192.0.2.1")
        wrong.sent("192.0.2.1")
    with pytest.raises(ProxyError) as caught:
        wrong.admit("192.0.2.1")
    assert (caught.value.status, caught.value.headers) == (429, (("retry-after", "4"),))
    wrong.admit("192.0.2.2")
    wrong.told("192.0.2.1")
    wrong.admit("192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "192.0.2.2", False),
    ],
)
def test_peers_are_counted_by_network(one: str, other: str, same: bool) -> None:
    wrong = WrongKeys(Clock())
    for _ in range(WrongKeys.FREE):
        wrong.sent(one)
    assert (wrong.sent(other) > 0) is same


def test_the_memory_of_peers_is_bounded() -> None:
    wrong = WrongKeys(Clock())
    for number in range(WrongKeys.MOST_PEERS + 50):
        wrong.sent(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(wrong) == WrongKeys.MOST_PEERS


def test_a_page_that_needs_no_key_is_guarded_all_the_same() -> None:
    assert outcome(Visit("192.0.2.1", {"host": "proxy.example"}, keyless=True), CLOSED) is None
    assert outcome(Visit("192.0.2.1", {"sec-fetch-site": "cross-site"}, keyless=True), CLOSED) is Forbidden
    assert outcome(Visit("192.0.2.1", {}, keyless=True), OPEN) is Forbidden
    assert outcome(Visit("127.0.0.1", {"host": "evil.example"}, keyless=True), OPEN) is Forbidden
