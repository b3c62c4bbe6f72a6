"""The page at `/dashboard`: one file, page.html, which loads nothing but the figures of `/usage/*`.

Whatever a client or provider puts into a name, the page shows as text, and its policy lets no other script run.
"""

import base64
import hashlib
import re
from importlib.resources import files

PATH = "/dashboard"


def page() -> bytes:
    return _PAGE


def _read() -> bytes:
    return files(__name__).joinpath("page.html").read_bytes()


def _hashes(tag: str) -> str:
    """Of the page's own scripts or styles, the only ones that may be there."""
    inner = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), _PAGE, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(each).digest()).decode()}'" for each in inner)


_PAGE = _read()
POLICY = (
    f"default-src 'none'; connect-src 'self'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-type", "text/html; charset=utf-8"),
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-cache"),
)
