"""Imports point one way: from a later layer of the table to an earlier one, or within a part."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "llm_interactive"
ROOT = Path(__file__).parent.parent / PACKAGE

LAYERS = (
    ("__init__", "errors", "setting_values", "wire_json"),
    ("backends.providers", "callers", "compression", "conversation", "dashboard", "events", "sse", "usage_export"),
    ("config_file", "limits", "thoughts", "url_guard"),
    ("protocols", "settings"),
    ("entry", "models", "passed_usage", "prices", "storage"),
    (
        "access",
        "backends",
        "certificate_authority",
        "custom_calls",
        "environment",
        "headers",
        "sessions",
        "spoken",
        "tokens",
        "transcript",
        "visible_thoughts",
    ),
    ("commands", "detectors", "redaction", "routing", "tuning"),
    ("reply",),
    ("loops",),
    ("configuration", "outgoing", "walk"),
    ("asked_in", "encoding", "told"),
    ("exchange",),
    ("commander", "diagnosis", "usage_report"),
    ("mitm",),
    ("cli",),
)
"""Parts of one layer do not know each other. A part is a module, or a folder with all that is in it."""

ONLY_FROM = {
    "mitmproxy": {"mitm"},
    "storage": {"mitm", "sessions", "usage_report"},
    "mitm": {"cli"},
}
"""Who may import these, whatever the layers say."""

LAYER_OF = {part: number for number, layer in enumerate(LAYERS) for part in layer}


def part_of(module: str) -> str | None:
    """The longest name of the table that the module (without the package's name) is, or is in."""
    steps = module.split(".")
    names = (".".join(steps[:end]) for end in range(len(steps), 0, -1))
    return next((name for name in names if name in LAYER_OF), None)


def imports(source: str) -> Iterator[str]:
    """Names of modules, or of things in modules: `a.b` and `a.b.c` of `from a.b import c`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def faults(module: str, source: str) -> list[str]:
    part = part_of(module)
    if part is None:
        return [f"{module} is not in the table of {Path(__file__).name}: say there in which layer it belongs"]
    return [fault for name in imports(source) if (fault := fault_of(part, name)) is not None]


def fault_of(part: str, imported: str) -> str | None:
    top, _, inside = imported.partition(".")
    if top == PACKAGE:
        target = part_of(inside) or "__init__"
    elif top in ONLY_FROM:
        target = top
    else:
        return f"{part} imports {imported}: write the whole name" if imported.startswith(".") else None
    if target == part:
        return None
    if part not in ONLY_FROM.get(target, {part}):
        return f"{part} imports {imported}: only {', '.join(sorted(ONLY_FROM[target]))} may"
    if target in LAYER_OF and LAYER_OF[target] >= LAYER_OF[part]:
        return f"{part} imports {imported}, which is not below it"
    return None


def modules() -> dict[str, Path]:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def test_imports_point_one_way() -> None:
    found = [fault for name, path in modules().items() for fault in faults(name, path.read_text(encoding="utf-8"))]
    assert found == []


def test_what_the_rules_find() -> None:
    assert faults("routing.plan", "from llm_interactive.redaction import x") == [
        "routing imports llm_interactive.redaction.x, which is not below it"
    ]
    assert faults("protocols.gemini", "from llm_interactive.backends import catalog") == [
        "protocols imports llm_interactive.backends.catalog, which is not below it"
    ]
    assert faults("exchange", "import mitmproxy.http") == ["exchange imports mitmproxy.http: only mitm may"]
    assert faults("exchange", "from llm_interactive import storage") == [
        "exchange imports llm_interactive.storage: only mitm, sessions, usage_report may"
    ]
    assert faults("cli", "def f():\n    from mitmproxy import ctx") == ["cli imports mitmproxy.ctx: only mitm may"]
    assert faults("routing.plan", "from . import keys") == ["routing imports ..keys: write the whole name"]
    assert faults("surprise", "") == [
        "surprise is not in the table of test_architecture.py: say there in which layer it belongs"
    ]


def test_what_the_rules_allow() -> None:
    assert faults("mitm.gateway", "import mitmproxy, json\nfrom llm_interactive.storage import ledger") == []
    assert faults("settings", "from llm_interactive.backends import providers") == []
    assert faults("backends.demo", "from llm_interactive.backends.demo_models import MODELS") == []
    assert faults("cli", "from llm_interactive.mitm.lean_master import serve") == []
