import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kit.certificates import Authority as Signer

from llm_interactive.certificate_authority import Authority, explained, world, write_bundle


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    signer = Signer(tmp_path)
    found = Authority.of(tmp_path / "conf")
    found.certificate.parent.mkdir()
    found.certificate.write_bytes(signer.path.read_bytes())
    return found


def test_what_is_said_of_it(authority: Authority) -> None:
    assert timedelta(days=29) < authority.valid_until() - datetime.now(UTC) <= timedelta(days=30)
    assert len(authority.fingerprint()) == 32 * 3 - 1
    text = explained(authority)
    assert str(authority.certificate) in text
    assert authority.fingerprint() in text
    assert "update-ca-certificates" in text
    assert f"Whoever has {authority.private_key}" in text


def test_before_the_first_start_there_is_none(tmp_path: Path) -> None:
    assert "the first start of the proxy makes it" in explained(Authority.of(tmp_path))


def test_what_is_no_certificate_is_an_error(authority: Authority) -> None:
    authority.certificate.write_text("nonsense")
    with pytest.raises((OSError, ValueError)):
        explained(authority)


def test_the_bundle_holds_the_worlds_authorities_and_this_one(authority: Authority, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    company = Signer(other).path
    bundle = write_bundle(authority, tmp_path / "home", {"SSL_CERT_FILE": str(company)})
    context = ssl.create_default_context(cafile=str(bundle))
    assert context.cert_store_stats()["x509_ca"] == 2
    again = write_bundle(authority, tmp_path / "home", {"SSL_CERT_FILE": str(bundle)})  # as `env` has set it
    assert again == bundle
    assert ssl.create_default_context(cafile=str(bundle)).cert_store_stats()["x509_ca"] > 50
    assert list(bundle.parent.iterdir()) == [bundle]


def test_the_world_is_found_where_nothing_is_set(tmp_path: Path) -> None:
    found = world({"SSL_CERT_FILE": str(tmp_path / "gone")}, tmp_path / "own")
    assert "BEGIN CERTIFICATE" in found.read_text(errors="replace")
