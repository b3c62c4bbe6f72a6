"""SPEC 9: where a URL that came out of a prompt may point, in all the spellings that tricked others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_interactive import url_guard
from llm_interactive.url_guard import UrlRefused, check, may_connect, place, same_origin

ALLOWED = ("api.example", "port.example:8443", "*.wild.example", "10.1.2.3", "[fd00::5]:8080", "xn--bcher-kva.example")


def refused(url: str) -> bool:
    try:
        check(url, ALLOWED)
    except UrlRefused:
        return True
    return False


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080/v1",
        "http://LOCALHOST/v1",
        "http://app.localhost/",
        "http://localhost./",
        "http://127.0.0.1:11434/v1",
        "http://127.8.9.1",
        "http://[::1]:8080",
        "http://[0:0:0:0:0:0:0:1]",
        "http://[::ffff:127.0.0.1]/",
        "https://api.example/v1",
        "https://API.Example.:444/v1",
        "https://port.example:8443/v1",
        "https://a.wild.example",
        "https://a.b.wild.example:8443",
        "http://10.1.2.3:9",
        "http://[::ffff:10.1.2.3]",
        "http://[FD00:0::5]:8080",
        "https://xn--bcher-kva.example/v1",
    ],
)
def test_this_machine_and_what_the_operator_allowed(url: str) -> None:
    assert not refused(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v1",
        "https://api.example.evil.example",
        "https://xapi.example",
        "https://port.example/v1",
        "https://port.example:8444",
        "https://wild.example",
        "https://awild.example",
        "http://[fd00::5]",
        "http://10.1.2.4",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://xlocalhost",
        "http://0.0.0.0",
        "http://0",
        "http://[::]",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]",
        "http://[::ffff:169.254.169.254]",
        "http://[64:ff9b::a9fe:a9fe]",
        "http://[2002:a9fe:a9fe::]",
    ],
)
def test_nothing_else(url: str) -> None:
    assert refused(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/",  # 127.0.0.1 as one number
        "http://2852039166/",  # 169.254.169.254 as one number
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://127.0.0.01/",
        "http://127.0.0.0x1/",
        "http://[::1%25lo]/",
        "http://[::1%lo]/",
        "http://[127.0.0.1]/",
        "http://[v1.x]/",
        "http://[::1",
        "http://::1/",
        "http://１２７.0.0.1/",  # fullwidth digits
        "http://127。0。0。1/",  # ideographic full stops
        "http://ⓛocalhost/",
        "https://аpi.example/",  # a Cyrillic letter
        "https://bücher.example/",
        "https://api%2eexample/",
        "https://api.example%2f@evil.example/",
        "https://api.example@evil.example/",
        "https://api.example:pass@evil.example/",
        "https://evil.example\\@api.example/",
        "https:\\\\api.example/",
        "https://api.example\\.evil.example/",
        "https://api.example /",
        " https://api.example/",
        "https://api.example\t.evil.example/",
        "https://api.ex\nample/",
        "https://api.example\x00.evil.example/",
        "https://api.example:0/",
        "https://api.example:65536/",
        "https://api.example:/",
        "https://api.example:+443/",
        "https://api.example:443:80/",
        "https://.api.example/",
        "https://api..example/",
        "https://-api.example/",
        "https://*.wild.example/",
        f"https://{'a' * 64}.wild.example/",
        f"https://{'a.' * 130}wild.example/",
        "https:///v1",
        "https:api.example",
        "//api.example",
        "api.example",
        "ftp://api.example/",
        "file:///etc/passwd",
        "javascript://api.example/",
        "",
    ],
)
def test_spellings_that_two_readers_could_read_differently(url: str) -> None:
    assert refused(url)


def test_the_refusal_says_why() -> None:
    with pytest.raises(UrlRefused, match=r"the host evil\.example must be this machine or one of LLM_ALLOWED_URLS"):
        check("https://evil.example/v1", ALLOWED)
    with pytest.raises(UrlRefused, match=r"the host a\.wild\.example resolves to 10\.0\.0\.1"):
        check("https://a.wild.example/v1", ALLOWED, ["8.8.8.8", "10.0.0.1"])


@pytest.mark.parametrize(
    ("host", "address", "may"),
    [
        ("localhost", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("LOCALHOST.", "::ffff:127.0.0.1", True),
        ("localhost", "10.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "8.8.8.8", False),
        ("[::1]", "::1", True),
        ("api.example", "8.8.8.8", True),
        ("api.example", "192.168.1.9", True),
        ("api.example", "127.0.0.1", True),
        ("api.example", "169.254.169.254", False),
        ("api.example", "::ffff:169.254.169.254", False),
        ("api.example", "fe80::1%eth0", False),
        ("api.example", "0.0.0.0", False),
        ("api.example", "::", False),
        ("api.example", "224.0.0.1", False),
        ("api.example", "no address", False),
        ("a.wild.example", "8.8.8.8", True),
        ("a.wild.example", "2606:4700::1", True),
        ("a.wild.example", "127.0.0.1", False),
        ("a.wild.example", "10.0.0.1", False),
        ("a.wild.example", "100.64.0.1", False),
        ("a.wild.example", "fd00::1", False),
        ("a.wild.example", "::ffff:10.0.0.1", False),
        ("a.wild.example", "64:ff9b::a00:1", False),
        ("a.wild.example", "169.254.169.254", False),
        ("a.wild.example", "10.1.2.3", True),  # the operator wrote this address
        ("evil.example", "8.8.8.8", False),
        ("port.example", "8.8.8.8", True),
    ],
)
def test_what_a_name_turns_out_to_be(host: str, address: str, may: bool) -> None:
    assert may_connect(address, host, ALLOWED) is may


def test_link_local_only_where_the_operator_wrote_it() -> None:
    assert may_connect("169.254.7.7", "169.254.7.7", ["169.254.7.7"])
    assert may_connect("169.254.7.7", "box.example", ["box.example", "169.254.7.7"])
    assert not may_connect("169.254.7.7", "box.example", ["box.example"])


def test_a_port_binds_the_connection_too() -> None:
    assert may_connect("8.8.8.8", "port.example", ALLOWED, 8443)
    assert not may_connect("8.8.8.8", "port.example", ALLOWED, 22)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://api.example/other/path", True),
        ("https://API.example.:443", True),
        ("http://api.example", False),
        ("https://api.example:8443", False),
        ("https://sub.api.example", False),
        ("https://api.example@evil.example", False),
        ("nonsense", False),
    ],
)
def test_a_key_stays_at_its_origin(url: str, same: bool) -> None:
    assert same_origin(url, "https://api.example/v1") is same


@given(st.text(max_size=60) | st.builds("http://{}".format, st.text(max_size=60)))
def test_any_text_is_a_place_or_refused(url: str) -> None:
    try:
        host, port = place(url)
    except UrlRefused:
        return
    assert host.isascii()
    assert 0 < port < 65536
    url_guard.may_connect(host, host, ALLOWED)
