import contextlib
import sqlite3
from pathlib import Path

import pytest
from kit.certificates import Authority as Signer
from kit.proxy import free_port, running_proxy
from kit.replies import text
from kit.upstream import Upstream, closed_port

from llm_interactive.certificate_authority import Authority
from llm_interactive.diagnosis import Finding, findings, reachable
from llm_interactive.settings import Settings, load

KEY = "sk-never-shown-0123456789"


@pytest.fixture
def own(tmp_path: Path) -> Authority:
    found = Authority.of(tmp_path / "conf")
    found.certificate.parent.mkdir()
    found.certificate.write_bytes(Signer(tmp_path).path.read_bytes())
    found.private_key.write_text("secret")
    found.private_key.chmod(0o600)
    return found


def settings(tmp_path: Path, **environment: str) -> Settings:
    return load({}, {"HOME": str(tmp_path), **environment}, tmp_path)


def found(
    tmp_path: Path, own: Authority, host: str = "127.0.0.1", port: int | None = None, **environment: str
) -> list[Finding]:
    known = settings(tmp_path, **environment)
    return list(findings(known, own, tmp_path / "home/proxy.db", host, port or free_port()))


def wrong(found: list[Finding]) -> list[str]:
    assert all(each.mend for each in found if each.state == "wrong")
    return [each.what for each in found if each.state == "wrong"]


def test_a_fresh_machine_has_nothing_wrong(tmp_path: Path) -> None:
    said = found(tmp_path, Authority.of(tmp_path / "nowhere"))
    assert wrong(said) == []
    assert [each.mend for each in said if "is free" in each.what] == ["start it: scripts/run"]
    assert any("there is only demo" in each.what for each in said)


def test_keys_are_counted_and_not_shown(tmp_path: Path, own: Authority) -> None:
    keys = {"OPENAI_API_KEY": KEY, "OPENAI_API_KEY_1": KEY + "1", "LLM_INTERACTIVE_PROXY_API_KEY": KEY + "2"}
    said = found(tmp_path, own, **keys)
    assert any(each.what == "backend openai: 2 keys, api.openai.com" for each in said)
    assert any("one of 1 keys" in each.what for each in said)
    assert KEY not in str(said)
    assert wrong(said) == []


def test_the_running_proxy_is_recognised(tmp_path: Path, own: Authority) -> None:
    with running_proxy(mode="serve", home=tmp_path) as proxy:
        said = found(tmp_path, own, port=proxy.port)
    assert any("the proxy answers on" in each.what for each in said), said


def test_another_program_on_the_port(tmp_path: Path, own: Authority, upstream: Upstream) -> None:
    upstream.enqueue(text("hello"))
    assert wrong(found(tmp_path, own, port=upstream.port)) == [f"another program listens on 127.0.0.1:{upstream.port}"]


def test_an_address_of_somebody_else(tmp_path: Path, own: Authority) -> None:
    with closed_port() as port:
        [said] = wrong(found(tmp_path, own, port=port))
        assert "cannot be listened on" in said


def test_a_door_that_is_open_to_others(tmp_path: Path, own: Authority) -> None:
    assert wrong(found(tmp_path, own, host="0.0.0.0")) == [
        "0.0.0.0 is open to others, who are all refused without a key"
    ]


def test_a_default_backend_without_a_key(tmp_path: Path, own: Authority) -> None:
    assert wrong(found(tmp_path, own, LLM_BACKEND="gemini")) == ["LLM_BACKEND is gemini, which has no key"]


def test_a_broken_certificate_and_a_readable_key(tmp_path: Path, own: Authority) -> None:
    own.private_key.chmod(0o644)
    assert wrong(found(tmp_path, own)) == [f"others on this machine can read {own.private_key}"]
    own.certificate.write_text("nonsense")
    assert "is no certificate" in wrong(found(tmp_path, own))[0]


def test_the_database(tmp_path: Path, own: Authority) -> None:
    path = tmp_path / "home/proxy.db"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE sessions (id)")
        assert any("0 calls recorded" in each.what for each in found(tmp_path, own))
        database.execute("CREATE TABLE usage (id)")
        database.execute("INSERT INTO usage VALUES (1)")
        database.commit()
    assert any("1 calls recorded" in each.what for each in found(tmp_path, own))
    path.write_text("no database at all, though it is long enough to be one" * 100)
    assert "cannot be used" in wrong(found(tmp_path, own))[0]
    with contextlib.closing(sqlite3.connect(path)) as database, pytest.raises(sqlite3.DatabaseError):
        database.execute("SELECT 1 FROM usage")


def test_a_home_that_is_a_file(tmp_path: Path, own: Authority) -> None:
    (tmp_path / "home").write_text("")
    assert wrong(found(tmp_path, own)) == [f"{tmp_path / 'home'} cannot be written to"]


def test_providers_are_reached_without_a_request(tmp_path: Path, upstream: Upstream, tls_upstream: Upstream) -> None:
    with closed_port() as port:
        gone = f"http://127.0.0.1:{port}"
        known = settings(
            tmp_path,
            OPENAI_API_KEY=KEY,
            OPENAI_API_BASE_URL=upstream.url,
            GEMINI_API_KEY=KEY,
            GEMINI_API_BASE_URL=tls_upstream.url,
            ANTHROPIC_API_KEY=KEY,
            ANTHROPIC_API_BASE_URL=gone,
        )
        said = list(reachable(known))
    assert [each.state for each in said] == ["ok", "ok", "wrong", "wrong"]
    assert "Connection refused" in said[2].what
    assert "is not trusted" in said[3].what
    assert upstream.requests == []
