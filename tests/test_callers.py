import pytest

from llm_interactive.callers import LONGEST, caller_name


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("claude-cli/2.1.3 (external, cli)", "Claude Code"),
        ("codex_cli_rs/0.98.0 (Ubuntu 24.4.0; x86_64) xterm-256color", "Codex"),
        ("codex_vscode/0.4 (Mac OS 15.1; arm64) vscode/1.99", "Codex"),
        ("GeminiCLI/0.21.0/gemini-2.5-pro (linux; x64) google-api-nodejs-client/9.15.1", "Gemini CLI"),
        ("GeminiCLI-vscode/0.21.0 (darwin; arm64)", "Gemini CLI"),
        ("opencode/1.0.120 ai-sdk/provider-utils/3.0.17 runtime/bun/1.3", "OpenCode"),
        ("ai/5.0.1 ai-sdk/openai/2.0 runtime/node.js/22", "Vercel AI SDK"),
        ("RooCode/3.30.0", "Roo Code"),
        ("OpenAI/Python 3.54.0", "OpenAI SDK (Python)"),
        ("AsyncOpenAI/Python 3.54.0", "OpenAI SDK (Python)"),
        ("OpenAI/JS 6.1.0", "OpenAI SDK (JavaScript)"),
        ("OpenAI/Go 2.7.1", "OpenAI SDK (Go)"),
        ("Anthropic/Python 2.12.0", "Anthropic SDK (Python)"),
        ("AsyncAnthropic/Python 2.12.0", "Anthropic SDK (Python)"),
        ("Anthropic/JS 0.70.0", "Anthropic SDK (JavaScript)"),
        ("google-genai-sdk/3.4.0 gl-python/3.13.0", "Google GenAI SDK (Python)"),
        ("google-genai-sdk/1.29.0 gl-node/v22.1.0", "Google GenAI SDK (JavaScript)"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "Browser"),
        ("Mozilla/5.0 (X11) Cursor/1.7.0 Chrome/138", "Cursor"),
        ("python-requests/2.32.3", "python-requests"),
        ("curl/8.5.0", "curl"),
        ("MyBot", "MyBot"),
        ("", None),
        ("  ", None),
        ("/", None),
    ],
)
def test_programs_go_by_their_names(agent: str, name: str | None) -> None:
    assert caller_name({"user-agent": agent}) == name


def test_without_a_user_agent_nothing_is_known() -> None:
    assert caller_name({}) is None


def test_a_program_that_says_its_title_goes_by_it() -> None:
    assert caller_name({"x-title": "Cline", "user-agent": "OpenAI/JS 6.1.0"}) == "Cline"
    assert caller_name({"x-title": " ", "user-agent": "OpenAI/JS 6.1.0"}) == "OpenAI SDK (JavaScript)"


def test_whatever_a_client_sends_is_a_short_line() -> None:
    for headers in ({"user-agent": "x" * 1_000_000}, {"x-title": "a\tb\x1b[31m" + "c" * 500}):
        name = caller_name(headers)
        assert name is not None
        assert name.isprintable()
        assert len(name) <= LONGEST
