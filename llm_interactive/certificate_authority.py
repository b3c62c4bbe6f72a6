"""mitmproxy's certificate authority: where it is, what programs need to trust it, and how the system is told.

mitmproxy makes it at its first start. Whoever has its private key can play any site to who trusts it.
"""

import hashlib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import certifi

CONFDIR = "~/.mitmproxy"
"""mitmproxy's own default."""
CERTIFICATE = "mitmproxy-ca-cert.pem"
PRIVATE_KEY = "mitmproxy-ca.pem"
BUNDLE = "ca-bundle.pem"
"""In the proxy's home: the world's authorities and this one, for programs that take one file in place of all."""
WORLD = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)  # fmt: skip
"""Where systems keep the authorities that they trust."""


@dataclass(frozen=True, slots=True)
class Authority:
    certificate: Path

    @classmethod
    def of(cls, confdir: Path) -> "Authority":
        return cls(confdir / CERTIFICATE)

    @property
    def private_key(self) -> Path:
        return self.certificate.with_name(PRIVATE_KEY)

    @property
    def exists(self) -> bool:
        return self.certificate.is_file()

    def valid_until(self) -> datetime:
        """Raises `OSError` where the file is no certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certificate)
        [found] = context.get_ca_certs()
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])), UTC)

    def fingerprint(self) -> str:
        der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text(encoding="ascii"))
        digest = hashlib.sha256(der).hexdigest().upper()
        return ":".join(digest[n : n + 2] for n in range(0, len(digest), 2))


def world(environ: Mapping[str, str], own: Path) -> Path:
    """The file of authorities that programs here use, but `own`."""
    candidates = (environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *WORLD)
    paths = (Path(each) for each in candidates if each)
    return next((path for path in paths if path.is_file() and path != own), Path(certifi.where()))


def write_bundle(authority: Authority, home: Path, environ: Mapping[str, str]) -> Path:
    """Raises `OSError`."""
    bundle = home / BUNDLE
    texts = [world(environ, bundle).read_text(encoding="utf-8", errors="replace"), authority.certificate.read_text()]
    home.mkdir(parents=True, exist_ok=True)
    unfinished = bundle.with_suffix(f".{os.getpid()}")
    unfinished.write_text("\n".join(texts), encoding="utf-8")
    unfinished.replace(bundle)  # other shells may read it now
    return bundle


def explained(authority: Authority) -> str:
    """For a person. Raises `OSError` where the file is no certificate."""
    path = authority.certificate
    if not authority.exists:
        return f"There is no certificate authority yet: the first start of the proxy makes it.\n\n  {path}\n"
    return TEXT.format(
        path=path,
        until=f"{authority.valid_until():%Y-%m-%d}",
        fingerprint=authority.fingerprint(),
        private=authority.private_key,
    )


TEXT = """\
The certificate authority of this proxy (mitmproxy's):

  {path}
  valid until {until}
  SHA-256 {fingerprint}

For the programs of one shell nothing need be installed:

  eval "$(llm-proxy env)"

For all programs of the system:

  Debian, Ubuntu   sudo cp {path} /usr/local/share/ca-certificates/mitmproxy.crt && sudo update-ca-certificates
  Fedora, Arch     sudo trust anchor {path}
  macOS            sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {path}
  Windows          certutil -addstore -f root {path}
  Firefox          Settings, Certificates, View Certificates, Authorities, Import

Programs with a list of their own (Node, Python, Java) do not look there: `llm-proxy env` says what they read.
Whoever has {private} can play any site to who trusts this authority: keep it to yourself.
"""
