r"""What secrets look like: a row for each format, from what vendors write about their keys and from keys they gave out.

`anchors` are texts one of which stands in every secret of the format: where none does, the pattern is not tried. A
pattern is matched once for each anchor, from `before` characters in front of it at most. It finds the secret itself, or
its group `secret` where the words around it must stay. It never takes a quote or a single backslash, so that JSON stays
JSON; its repetitions are bounded, and the runs that two anchors make it read do not overlap: the cost grows with the
length of the text alone.

`token`: the whole secret is at least `SHORTEST_TOKEN` letters, digits and `_-.+/=`, and without `before` it begins with
its anchor, at a `BOUNDARY`. `in_address`: False for what a provider needs in a URL to fetch it.
"""

import itertools
import re
from dataclasses import dataclass

SHORTEST_TOKEN = 16

BOUNDARY = (
    r"(?:(?<![A-Za-z0-9_-])"
    r"|(?<=\\[nrtbf])|(?<=\\u00[0-9a-fA-F]{2})"  # escaped JSON in text
    r"|(?<=%[0-9A-Fa-f]{2})"  # a URL's query
    r"|(?<=\x1b\[K)|(?<=[;\[][0-9]m)|(?<=[;\[][0-9]{2}m))"  # colours of a terminal
)
"""Where a token can begin: not in the middle of a word (`task-...`) or of base64url."""


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    anchors: tuple[str, ...]
    pattern: str
    token: bool = True
    before: int = 0
    in_address: bool = True

    def compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.ASCII)


def _token(name: str, anchors: str, body: str, **more: bool) -> Format:
    """`anchors`: the prefixes, separated by spaces; `body` is what follows any of them."""
    prefixes = tuple(anchors.split())
    either = "|".join(map(re.escape, prefixes))
    return Format(name, prefixes, rf"{BOUNDARY}(?:{either}){body}", **more)


def _text(name: str, anchors: str, pattern: str, before: int = 0, in_address: bool = True) -> Format:
    return Format(name, tuple(anchors.split(" | ")), pattern, token=False, before=before, in_address=in_address)


ENOUGH_DIGITS = r"(?=(?:[A-Za-z_+/=-]{0,40}[0-9]){3})(?=(?:[0-9_+/=-]{0,40}[A-Za-z]){3})"
"""In the first few dozen characters: a random key has digits and letters, a name in a program has not."""
ASSIGNED = r"(?:\\?[\"'])?[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3}(?:\\?[\"'])?"
"""Between a name and its value, in most languages, JSON in JSON included."""
BLANK = r"(?:[ \t\r\n]|\\[nrt])"

LANGUAGE_MODELS = (
    _token("OpenAI key", "sk-proj- sk-svcacct- sk-admin- sk-None-", r"[A-Za-z0-9_-]{16,400}"),
    _token("Anthropic key", "sk-ant-", r"[a-z]{2,8}[0-9]{2}-[A-Za-z0-9_-]{16,400}"),
    _token("OpenRouter key", "sk-or-", r"v[0-9]-[A-Za-z0-9]{20,128}"),
    _token(
        "Langfuse, LiteLLM, Kimi and other key", "sk-lf- sk-kimi- sk-litellm- sk-cp- sk-sp-", r"[A-Za-z0-9_-]{20,200}"
    ),
    _token(
        "key of OpenAI's kind",
        "sk-",
        r"(?:(?=[A-Za-z0-9]{0,60}[0-9])[A-Za-z0-9]{20,200}|[A-Za-z]{40,200}"
        r"|(?:[a-z]{2,12}-){1,2}(?=[A-Za-z0-9]{0,60}[0-9])[A-Za-z0-9]{20,200})",
    ),
    _token("ElevenLabs key", "sk_", r"[0-9a-f]{40,64}(?![A-Za-z0-9])"),
    _token("Google API key", "AIza", r"[A-Za-z0-9_-]{30,64}"),
    _token("Google key of the new kind", "AQ.", r"[A-Za-z0-9_-]{20,200}"),
    _token("Groq key", "gsk_", r"[A-Za-z0-9]{20,128}"),
    _token("xAI key", "xai-", r"(?=[A-Za-z0-9]{0,60}[0-9])[A-Za-z0-9]{20,200}"),
    _token("Replicate token", "r8_", r"[A-Za-z0-9]{20,64}"),
    _token("Hugging Face token", "hf_ api_org_", r"[A-Za-z0-9]{20,64}(?![A-Za-z0-9_])"),
    _token("Perplexity key", "pplx-", r"[A-Za-z0-9]{20,64}"),
    _token("Cerebras key", "csk-", r"(?=[a-z0-9]{0,60}[0-9])[a-z0-9]{24,64}"),
    _token("NVIDIA key", "nvapi-", r"[A-Za-z0-9_-]{20,128}"),
    _token("Together key", "tgp_v1_", r"[A-Za-z0-9_-]{20,64}"),
    _token("Fireworks key", "fw_", r"(?=[A-Za-z0-9]{0,30}[0-9])[A-Za-z0-9]{20,64}"),
    _token("Tavily key", "tvly-", r"[A-Za-z0-9-]{20,64}"),
    _token("Pinecone key", "pcsk_", r"[A-Za-z0-9_]{20,128}"),
    _token("Jina key", "jina_", r"[A-Za-z0-9_-]{20,96}"),
    _token("LangSmith key", "lsv2_", r"(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
)

CODE_AND_PACKAGES = (
    _token("GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_", r"[A-Za-z0-9]{30,255}"),
    _token("GitHub fine-grained token", "github_pat_", r"[A-Za-z0-9_]{22,255}"),
    _token("GitLab token", "glpat- gldt- glrt- glptt- gloas- glcbt- glsoat-", r"[A-Za-z0-9_.-]{20,255}"),
    _token("Bitbucket and Atlassian token", "ATATT3 ATBB ATCTT3", r"[A-Za-z0-9_=-]{20,400}"),
    _token("npm token", "npm_", r"(?=[A-Za-z0-9]{0,40}[0-9])[A-Za-z0-9]{30,64}(?![A-Za-z0-9_])"),
    _token("PyPI token", "pypi-AgE", r"[A-Za-z0-9_-]{20,400}"),
    _token("RubyGems key", "rubygems_", r"[0-9a-f]{40,64}"),
    _token("Docker Hub token", "dckr_pat_ dckr_oat_", r"[A-Za-z0-9_-]{20,64}"),
    _token("Buildkite token", "bkua_", r"[0-9a-f]{40}"),
    _token("CircleCI token", "CCIPAT_", r"[A-Za-z0-9_]{30,128}"),
    _token("Sentry token", "sntrys_ sntryu_", r"[A-Za-z0-9_+/=]{30,400}"),
    _token("Postman key", "PMAK-", r"[0-9a-f]{20,32}-[0-9a-f]{30,40}"),
)

CLOUDS = (
    _token("AWS access key id", "AKIA ASIA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _token("Alibaba Cloud access key id", "LTAI", r"[A-Za-z0-9]{16,24}(?![A-Za-z0-9])"),
    _token("Google OAuth client secret", "GOCSPX-", r"[A-Za-z0-9_-]{20,64}"),
    _token("Google access token", "ya29.", r"[A-Za-z0-9_.-]{20,1024}"),
    _token("DigitalOcean token", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{40,64}"),
    _token("Databricks token", "dapi", r"[0-9a-f]{32}(?:-[0-9])?(?![A-Za-z0-9])"),
    _token("Supabase key", "sbp_ sb_secret_", r"[A-Za-z0-9_-]{20,64}"),
    _token("Vercel token", "vcp_ vci_ vca_ vcr_ vck_ vercel_blob_rw_", r"[A-Za-z0-9_]{24,96}"),
    _token("Netlify token", "nfp_", r"[A-Za-z0-9]{30,64}"),
    _token("Heroku key", "HRKU-", r"[A-Za-z0-9_-]{30,80}"),
    _token("Vault token", "hvs. hvb.", r"[A-Za-z0-9_-]{20,300}"),
    _token("Doppler token", "dp.pt. dp.st. dp.sa. dp.ct.", r"[A-Za-z0-9_.-]{30,80}"),
    _token("Grafana token", "glc_ glsa_", r"[A-Za-z0-9_+/=]{30,400}"),
    _token("New Relic key", "NRAK- NRJS- NRII-", r"[A-Za-z0-9_-]{19,64}"),
    _token("PlanetScale password", "pscale_", r"(?:pw|tkn|oauth)_[A-Za-z0-9_.=-]{30,80}"),
    _token("Tailscale key", "tskey-", r"[a-z]{3,10}-[A-Za-z0-9]{6,32}-?[A-Za-z0-9-]{8,64}"),
    Format(
        "Terraform Cloud token",
        (".atlasv1.",),
        rf"{BOUNDARY}[A-Za-z0-9]{{14}}\.atlasv1\.[A-Za-z0-9_=-]{{40,80}}",
        before=14,
    ),
    _text(
        "AWS secret access key",
        "secret_access_key | SECRET_ACCESS_KEY | secretAccessKey | SecretAccessKey | aws_secret_key | AWS_SECRET_KEY",
        r"[A-Za-z_]{10,17}" + ASSIGNED + r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    ),
    _text(
        "Azure account key",
        "Key=",
        r"(?:Account|SharedAccess)Key=(?P<secret>[A-Za-z0-9+/]{40,120}={0,2})",
        before=12,
    ),
    _text(
        "Azure shared access signature",
        "sig=",
        r"sig=(?P<secret>(?:[A-Za-z0-9+/_-]|%2[BbFf]){40,120}(?:=|%3[Dd]){0,2})",
        in_address=False,
    ),
    _text("Azure client secret", "Q~", rf"{BOUNDARY}[A-Za-z0-9_~.]{{3}}[0-9]Q~[A-Za-z0-9_~.-]{{31,34}}", before=4),
)

SERVICES = (
    _token("Slack token", "xoxb- xoxp- xoxa- xoxo- xoxr- xoxs- xoxe- xoxc- xapp-", r"[A-Za-z0-9-]{14,300}"),
    _text("Slack cookie", "xoxd-", rf"{BOUNDARY}xoxd-[A-Za-z0-9%_+/=-]{{20,400}}"),
    _token("Slack rotating token", "xoxe.", r"xox[a-z]-[A-Za-z0-9-]{20,300}"),
    _text(
        "Slack webhook",
        "hooks.slack.com/",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9_/-]{16,128})",
    ),
    _text(
        "Discord webhook",
        "/api/webhooks/",
        r"/api/webhooks/[0-9]{15,21}/(?P<secret>[A-Za-z0-9_-]{30,100})",
    ),
    _token(
        "Discord bot token",
        " ".join(map("".join, itertools.product("MNO", "TjzD", "AEIMQUYcgk"))),  # digits in base64
        r"[A-Za-z0-9_-]{20,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,45}",
    ),
    _text(
        "Telegram bot token",
        ":AA",
        rf"(?:{BOUNDARY}|(?<=bot))[0-9]{{8,10}}:AA[A-Za-z0-9_-]{{31,34}}(?![A-Za-z0-9_-])",
        before=10,
    ),
    _token("Stripe key", "sk_live_ rk_live_ sk_test_ rk_test_", r"[A-Za-z0-9]{16,247}"),
    _text("webhook signing secret", "whsec_", rf"{BOUNDARY}whsec_[A-Za-z0-9+/=]{{20,88}}"),
    _token("Square token", "sq0atp- sq0csp-", r"[A-Za-z0-9_-]{22,64}"),
    _token("SendGrid key", "SG.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    _token("Twilio key", "SK", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    _token("Mailgun key", "key-", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    _token("Brevo key", "xkeysib-", r"[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    _token("Resend key", "re_", r"(?=[A-Za-z0-9_]{0,40}[0-9])[A-Za-z0-9]{8}_[A-Za-z0-9]{20,40}(?![A-Za-z0-9_])"),
    _token("Linear key", "lin_api_ lin_oauth_", r"[A-Za-z0-9]{32,64}"),
    _token("Notion token", "ntn_ secret_", r"(?=[A-Za-z0-9]{0,40}[0-9])[A-Za-z0-9]{40,64}(?![A-Za-z0-9_])"),
    _token("Shopify token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),
    _token("Airtable token", "pat", r"[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    _token("Figma token", "figd_", r"[A-Za-z0-9_-]{30,64}"),
    _token("Dropbox token", "sl.", r"[A-Za-z0-9_-]{100,1400}"),
    _token("1Password service account token", "ops_eyJ", r"[A-Za-z0-9+/=_-]{100,2000}"),
)

GENERAL = (
    _token("age secret key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,64}"),
    _token("JSON Web Token", "eyJ", r"[A-Za-z0-9_-]{8,4000}+\.eyJ[A-Za-z0-9_-]{4,8000}+\.[A-Za-z0-9_-]{16,2000}"),
    _text(
        "private key",
        "-----BEGIN ",
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:"
        r"(?=[^-]{0,200}?[A-Za-z0-9+/]{16})"
        r"(?:[A-Za-z0-9+/=\s:,.()]|\\[nrt/]|-(?!-)){16,20000}+"
        r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        rf"|(?:{BLANK}{{1,8}}[A-Za-z0-9+/=]{{16,128}}){{1,400}})",
    ),
    _text(
        "password in a URL",
        "://",
        r"(?<=[A-Za-z0-9])://[^\s/:@\[\]\"'<>\\`]{0,128}:"
        r"(?P<secret>(?!\$|\{|<|%[sd(]|\*|\(API_KEY_HAS_BEEN)[^\s/\"'<>\\`]{1,256})@[A-Za-z0-9\[]",
    ),
    _text("bearer token", "earer ", r"earer[ \t]{1,4}(?P<secret>(?=[^0-9\s]{0,80}[0-9])[A-Za-z0-9._~+/=-]{20,4000})"),
    _text(
        "credentials in a header",
        "uthorization",
        r"uthorization"
        + ASSIGNED
        + r"(?:[Bb]asic|[Tt]oken|Bot|ApiKey)[ \t]{1,4}(?P<secret>[A-Za-z0-9._~+/=-]{12,4000})",
    ),
    _text(
        "assigned key",
        "API_KEY | api_key | apiKey | api-key | Api-Key | CLIENT_SECRET | client_secret | SECRET_KEY | _TOKEN",
        r"[A-Za-z_-]{6,13}" + ASSIGNED + rf"(?P<secret>(?!/){ENOUGH_DIGITS}[A-Za-z0-9_+/=-]{{20,400}})",
    ),
)

FORMATS = LANGUAGE_MODELS + CODE_AND_PACKAGES + CLOUDS + SERVICES + GENERAL
