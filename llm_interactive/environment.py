"""What to set in a shell, so that programs call their providers through this proxy: `eval "$(llm-proxy env)"`.

Two ways (SPEC 1): as a proxy, where programs keep their own keys, or as a base URL. The proxy's key is never printed: a
shell puts it in.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

KEY = "LLM_INTERACTIVE_PROXY_API_KEY"
PROXY = ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy")
NO_PROXY = ("NO_PROXY", "no_proxy")
OWN = "localhost,127.0.0.1,::1"

BUNDLE, CERTIFICATE = "bundle", "certificate"
"""What a variable wants: all authorities in one file, or ours beside its own."""
AUTHORITIES: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "claude": (("NODE_EXTRA_CA_CERTS", CERTIFICATE),),
        "codex": (("CODEX_CA_CERTIFICATE", BUNDLE), ("SSL_CERT_FILE", BUNDLE)),
        "gemini": (("NODE_EXTRA_CA_CERTS", CERTIFICATE),),
        "python": (("SSL_CERT_FILE", BUNDLE), ("REQUESTS_CA_BUNDLE", BUNDLE)),
        "node": (("NODE_EXTRA_CA_CERTS", CERTIFICATE),),
        "curl": (("CURL_CA_BUNDLE", BUNDLE),),
    }
)
"""Program -> the variables that it reads."""
MORE: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType({"node": (("NODE_USE_ENV_PROXY", "1"),)})
BASE_URLS: Mapping[str, tuple[tuple[str, str, str], ...]] = MappingProxyType(
    {
        "claude": (("ANTHROPIC_BASE_URL", "/anthropic", "ANTHROPIC_API_KEY"),),
        "codex": (("OPENAI_BASE_URL", "/v1", "OPENAI_API_KEY"),),
        "gemini": (("GOOGLE_GEMINI_BASE_URL", "", "GEMINI_API_KEY"),),
    }
)
"""Program -> variables of its base URL, the path behind the proxy's address, and the variable of its key."""
SAID: Mapping[str, str] = MappingProxyType(
    {
        "claude": "Claude Code",
        "codex": "Codex CLI",
        "gemini": "Gemini CLI",
        "python": "Python: httpx, requests, the SDKs",
        "node": "Node 22.21 or newer; older ones need a proxy agent in the program",
        "curl": "curl",
    }
)
PROGRAMS = (*SAID, "docker")
IN_CONTAINER = "/etc/llm-proxy/ca-bundle.pem"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the proxy listens, the files of its authority, and whether it asks for a key."""

    host: str
    port: int
    certificate: str
    bundle: str
    has_key: bool

    def url(self, host: str | None = None, *, login: bool = True) -> str:
        name = host or self.host
        name = f"[{name}]" if ":" in name else name
        user = f"any:${{{KEY}%%,*}}@" if self.has_key and login else ""
        return f"http://{user}{name}:{self.port}"


def as_proxy(program: str | None, place: Place) -> list[str]:
    """Lines for a shell, those of all programs where none is named."""
    if program == "docker":
        return list(_docker(place))
    lines = [f"# programs keep their own keys; {_who(program)}"]
    if place.has_key:
        lines.append(f"# {KEY} must be set in this shell; without it commands and other backends are not for you")
    lines += [_export(name, place.url()) for name in PROXY] + [_export(name, OWN) for name in NO_PROXY]
    files = {BUNDLE: place.bundle, CERTIFICATE: place.certificate}
    named = (program,) if program is not None else tuple(AUTHORITIES)
    wanted = [(name, files[kind]) for each in named for name, kind in AUTHORITIES[each]]
    wanted += [pair for each in named for pair in MORE.get(each, ())]
    return lines + [_export(name, value) for name, value in dict(wanted).items()]


def as_base_url(program: str | None, place: Place) -> list[str]:
    named = (program,) if program in BASE_URLS else tuple(BASE_URLS)
    lines = [f"# the proxy's keys are used; {_who(program)}"]
    for each in named:
        for variable, path, key in BASE_URLS[str(each)]:
            lines.append(_export(variable, place.url(login=False) + path))
            lines.append(_export(key, f"${{{KEY}%%,*}}" if place.has_key else "any"))
    return lines


def _who(program: str | None) -> str:
    said = SAID.get(program or "")
    return f"for {said}" if said else "for all programs of this shell"


def _export(name: str, value: str) -> str:
    return f'export {name}="{value}"'


def _docker(place: Place) -> Iterator[str]:
    host = "host.docker.internal"
    yield "# the proxy must listen where containers reach it, and then it asks for a key:"
    yield f"#   {KEY}=... llm-proxy serve --host 0.0.0.0 --port {place.port}"
    yield "docker run --rm -it \\"
    yield f"  --add-host {host}:host-gateway \\"
    yield f'  -v "{place.bundle}:{IN_CONTAINER}:ro" \\'
    login = Place(host, place.port, place.certificate, place.bundle, has_key=True)
    for name in PROXY:
        yield f'  -e {name}="{login.url()}" \\'
    for name in (
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "CODEX_CA_CERTIFICATE",
    ):
        yield f"  -e {name}={IN_CONTAINER} \\"
    yield f"  -e NO_PROXY={OWN} -e NODE_USE_ENV_PROXY=1 \\"
    yield '  "$IMAGE"'
