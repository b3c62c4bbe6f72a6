"""Every format finds its secrets wherever they stand, and leaves alone what only looks like one."""

import re
from random import Random

import pytest

from llm_interactive.redaction.formats import FORMATS
from llm_interactive.redaction.redactor import REPLACEMENT, Redactor

DICE = Random(7)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALNUM = LETTERS + LETTERS.upper() + "0123456789"
HEX = "0123456789abcdef"


def some(length: int, characters: str = ALNUM) -> str:
    """Random, and with a digit in it, as real keys have."""
    return "".join(DICE.choices(characters, k=length - 3)) + "4b2"


def upper(length: int) -> str:
    return "".join(DICE.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=length))


def pem(kind: str, lines: int = 12, newline: str = "\n") -> str:
    body = newline.join(some(64, ALNUM + "+/") for _ in range(lines))
    return f"-----BEGIN {kind}-----{newline}{body}{newline}-----END {kind}-----"


SECRETS = {
    "openai": "sk-" + some(48),
    "openai project": "sk-proj-" + some(74, ALNUM + "_-") + "T3BlbkFJ" + some(74, ALNUM + "_-"),
    "openai service account": "sk-svcacct-" + some(100, ALNUM + "_-"),
    "anthropic": "sk-ant-api03-" + some(93, ALNUM + "_-") + "AA",
    "anthropic oauth": "sk-ant-oat01-" + some(95, ALNUM + "_-"),
    "openrouter": "sk-or-v1-" + some(64, HEX),
    "deepseek": "sk-" + some(32, HEX),
    "google": "AIza" + some(35, ALNUM + "_-"),
    "google new": "AQ.Ab8RN6" + some(44, ALNUM + "_-"),
    "google oauth secret": "GOCSPX-" + some(28, ALNUM + "_-"),
    "groq": "gsk_" + some(52),
    "xai": "xai-" + some(80),
    "replicate": "r8_" + some(37),
    "hugging face": "hf_" + some(34),
    "perplexity": "pplx-" + some(48),
    "cerebras": "csk-" + some(48, LETTERS + "0123456789"),
    "nvidia": "nvapi-" + some(64, ALNUM + "_-"),
    "github classic": "ghp_" + some(36),
    "github oauth": "gho_" + some(36),
    "github user": "ghu_" + some(36),
    "github server": "ghs_" + some(36),
    "github refresh": "ghr_" + some(76),
    "github fine-grained": "github_pat_" + some(22) + "_" + some(59),
    "gitlab": "glpat-" + some(20, ALNUM + "_-"),
    "aws key id": "AKIA" + upper(16),
    "aws session key id": "ASIA" + upper(16),
    "slack bot": f"xoxb-{some(12, '0123456789')}-{some(13, '0123456789')}-{some(24)}",
    "slack app": f"xapp-1-A{upper(10)}-{some(13, '0123456789')}-{some(64, HEX)}",
    "stripe": "sk_live_" + some(24),
    "stripe restricted": "rk_live_" + some(99),
    "stripe webhook": "whsec_" + some(32, ALNUM + "+/"),
    "sendgrid": f"SG.{some(22, ALNUM + '_-')}.{some(43, ALNUM + '_-')}",
    "twilio": "SK" + some(32, HEX),
    "npm": "npm_" + some(36),
    "pypi": "pypi-AgEIcHlwaS5vcmc" + some(120, ALNUM + "_-"),
    "docker": "dckr_pat_" + some(27, ALNUM + "_-"),
    "digitalocean": "dop_v1_" + some(64, HEX),
    "telegram": f"{some(9, '123456789')[:-3]}123:AA" + some(33, ALNUM + "_-"),
    "discord": f"MTIz{some(22)}.{some(6)}.{some(38, ALNUM + '_-')}",
    "mailgun": "key-" + some(32, HEX),
    "databricks": "dapi" + some(32, HEX),
    "supabase": "sbp_" + some(40, HEX),
    "vercel gateway": "vck_" + some(56),
    "linear": "lin_api_" + some(40),
    "notion": "ntn_" + some(46),
    "shopify": "shpat_" + some(32, HEX),
    "vault": "hvs." + some(95, ALNUM + "_-"),
    "grafana": "glsa_" + some(32) + "_" + some(8, HEX),
    "terraform": f"{some(14)}.atlasv1.{some(67, ALNUM + '_-')}",
    "azure client": f"{some(3)}8Q~{some(34, ALNUM + '_.-')}",
    "age": "AGE-SECRET-KEY-1" + upper(58),
    "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{some(43, ALNUM + '_-')}",
    "private key": pem("PRIVATE KEY"),
    "rsa private key": pem("RSA PRIVATE KEY", 25),
    "ec private key": pem("EC PRIVATE KEY", 3),
    "encrypted private key": pem("ENCRYPTED PRIVATE KEY"),
    "openssh private key": pem("OPENSSH PRIVATE KEY"),
    "pgp private key": pem("PGP PRIVATE KEY BLOCK"),
    "escaped private key": pem("PRIVATE KEY", newline="\\n"),
}

AROUND = {
    "aws secret": ("aws_secret_access_key = ", some(40, ALNUM + "+/"), "\n"),
    "aws secret in json": ('{"SecretAccessKey": "', some(40, ALNUM + "+/"), '"}'),
    "azure storage": ("DefaultEndpointsProtocol=https;AccountName=x;AccountKey=", some(86) + "==", ";EndpointSuffix=y"),
    "azure sas": ("https://x.blob.core.windows.net/c?sv=2024-11-04&sig=", some(41) + "%2B%3D", "&se=2026"),
    "slack webhook": ("https://hooks.slack.com/services/", f"T{upper(10)}/B{upper(10)}/{some(24)}", " posts"),
    "discord webhook": ("https://discord.com/api/webhooks/123456789012345678/", some(68, ALNUM + "_-"), ""),
    "postgres": ("postgres://app:", "hunter2!", "@db.internal:5432/shop"),
    "redis": ("redis://:", "p%40ss", "@127.0.0.1:6379/0"),
    "at sign in a password": ("https://u:", "a@b@c", "@host/x"),
    "bearer": ('curl -H "Authorization: Bearer ', some(40, ALNUM + "._-"), '" https://x'),
    "basic": ("Authorization: Basic ", "dXNlcjpwYXNzd29yZA==", "\r\n"),
    "key of no known form": ("AZURE_OPENAI_API_KEY=", some(32, HEX), "\n"),
    "key in json": ('{"api_key": "', some(32), '"}'),
    "key in json in json": (r"{\"apiKey\": \"", some(32), r"\"}"),
    "telegram in a url": ("https://api.telegram.org/bot", "123456789:AA" + some(33, ALNUM + "_-"), "/getMe"),
    "unclosed private key": ("", pem("RSA PRIVATE KEY").rpartition("\n")[0], "\nmore text"),
}

HEALTHY = [
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8 (HEAD -> main)",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "550e8400-e29b-41d4-a716-446655440000",
    "sha512-" + some(86, ALNUM + "+/") + "==",
    "data:image/png;base64," + some(4000, ALNUM + "+/") + "==",
    some(4000, ALNUM + "+/"),
    some(4000, ALNUM + "_-"),
    "task-management-for-teams-of-2026-and-beyond, risk-free, disk-usage-of-12345678901234567890",
    'Put your key (sk-...) here: OPENAI_API_KEY="sk-..." or sk-xxxx or sk-ant-api03-...',
    "OPENAI_API_KEY=your-api-key-goes-here-please, api_key=os.environ['OPENAI_API_KEY_2']",
    "api_key: process.env.ANTHROPIC_API_KEY ?? settings.apiKeyFromTheVaultOfTheTeam",
    "<button class='sk-loading-spinner sk-fading-circle-large-element'>",
    "call_Zx8Yw7Vu6Ts5Rq4Po3Nm2Lk1, toolu_01A09q90qw90lq917835lq9, msg_013Zva2CMHLNnjNjJKqJ2EF",
    "rs_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
    "postgres://user:${DB_PASSWORD}@host/db, https://user:<password>@host, https://example.com:8080/@scope/name",
    "git@github.com:owner/name.git ssh://git@host:22/path mailto:a@b.c http://[::1]:8080/a@b",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUF\n-----END CERTIFICATE-----",
    "A key begins with -----BEGIN PRIVATE KEY----- and ends with -----END PRIVATE KEY-----.",
    "Authorization: Bearer <token>; Authorization: Bearer $TOKEN; the bearer authentication-scheme-of-oauth",
    "eyJhbGciOiJIUzI1NiJ9 alone, and eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0 unsigned",
    "SKU-1234, ASIAN, AKIA, hf_hub_download, npm_config_registry_of_the_whole_company, key-value, dapi/v2, re_compile",
    "max_tokens: 4096, next_page_token: CAUQAA1234567890abcdef, csrf_token",
    "https://u:(API_KEY_HAS_BEEN_REDACTED)@host and X_API_KEY=(API_KEY_HAS_BEEN_REDACTED)",
    "The quick brown fox. " * 200,
]

PLACES = [
    "{}",
    "see {} there",
    "x={}",
    '"{}"',
    "a\n{}\nb",
    "`{}`",
    "é{}ü",
    "key:{},",
    "({})",
    r"{{\"k\": \"line\n{}\"}}",
    "?t=%3D{}",
]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("place", PLACES)
def test_a_secret_is_found(name: str, place: str) -> None:
    text = place.format(SECRETS[name])
    assert Redactor().redact_text(text) == place.format(REPLACEMENT)


@pytest.mark.parametrize("name", AROUND)
def test_a_secret_is_told_by_what_is_around_it(name: str) -> None:
    before, secret, after = AROUND[name]
    assert Redactor().redact_text(before + secret + after) == before + REPLACEMENT + after


@pytest.mark.parametrize("text", HEALTHY)
def test_what_only_looks_like_a_secret_stays(text: str) -> None:
    assert Redactor().redact_text(text) is text


def test_many_formats_are_known() -> None:
    assert len(FORMATS) > 60
    assert len({each.name for each in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("format_", FORMATS, ids=lambda each: each.name)
def test_anchors_are_what_the_scanner_looks_for(format_) -> None:  # type: ignore[no-untyped-def]
    assert all(anchor.isascii() and '"' not in anchor and "\\" not in anchor for anchor in format_.anchors)
    if format_.token:
        assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", anchor) for anchor in format_.anchors)
