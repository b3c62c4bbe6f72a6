"""Every row of both tables of SPEC 5.3, and what becomes of a request (SPEC 5.2)."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_interactive import __version__
from llm_interactive.commands.command import all_commands
from llm_interactive.commands.context import BackendSummary, Context
from llm_interactive.commands.run import Outcome, run
from llm_interactive.commands.scanner import LONGEST_ARGUMENTS
from llm_interactive.commands.set_keys import KEYS
from llm_interactive.config_file import FailoverRoute
from llm_interactive.conversation import Conversation, Media, Message, Source, Text, ToolCall, ToolResult
from llm_interactive.sessions import Server, Session

type Say = Callable[[str], Outcome]

UNKNOWN_KEY = f"there are {', '.join(key.name for key in KEYS)}"


@pytest.fixture
def context() -> Context:
    return Context(
        Session("client/mine"),
        Server(),
        {"openai": BackendSummary(2, 40), "gemini": BackendSummary(1), "openrouter": BackendSummary(1, 1)},
    )


@pytest.fixture
def say(context: Context) -> Say:
    return lambda text: run(asked(text), context)


def asked(*texts: str) -> Conversation:
    return Conversation(model="m", messages=(Message(role="user", parts=tuple(Text(text=text) for text in texts)),))


def prompt(outcome: Outcome) -> str:
    return outcome.conversation.messages[-1].text


ANSWERS = [
    ("help", "available commands: alias, create-failover-route, delete-failover-route, hello, help, "
     "list-failover-routes, oneoff, pwd, route-append, route-clear, route-list, route-prepend, set, status, unset"),
    ("HELLO", f"LLM Interactive Proxy {__version__}\nSession: mine\nopenai: 2 keys, 40 models\n"
     "gemini: 1 key, models not asked yet\nopenrouter: 1 key, 1 model\nType !/help for list of available commands"),
    ("oneoff(openai:gpt-5)", "One-off route set to openai/gpt-5."),
    ("one-off(openrouter/anthropic/claude:free)", "One-off route set to openrouter/anthropic/claude:free."),
    ("set(model=openai:gpt-4o)", "model set to openai:gpt-4o"),
    ("set(model=openrouter/anthropic/claude)", "model set to openrouter:anthropic/claude"),
    ("set(model=configured)", "model set to configured"),
    ("set(model=fast)", "model set to openai:gpt-5-nano"),
    ("set(backend=gemini)", "backend set to gemini"),
    ("set(default-backend=gemini)", "default backend set to gemini"),
    ("set(project=My work)", "project set to My work"),
    ("set(project-name='a, b')", "project set to a, b"),
    ("set(interactive=yes)", "interactive set to True"),
    ("set(interactive-mode=OFF)", "interactive set to False"),
    ("set(temperature=0.7)", "temperature set to: 0.7"),
    ("set(temperature=0)", "temperature set to: 0.0"),
    ("set(temperature=2.0)", "temperature set to: 2.0"),
    *((f"set(reasoning-effort={effort})", f"reasoning-effort set to {effort}")
      for effort in ("none", "minimal", "low", "medium", "high", "xhigh", "max")),
    ("set(reasoning=effort=high)", 'reasoning set to {"effort": "high"}'),
    ("set(reasoning=low)", 'reasoning set to {"effort": "low"}'),
    ("set(reasoning=max_tokens=2000, exclude=true)", 'reasoning set to {"max_tokens": 2000, "exclude": true}'),
    ('set(reasoning={"effort": "high", "exclude": false})', 'reasoning set to {"effort": "high", "exclude": false}'),
    ("set(reasoning={exclude=yes, max_tokens=9})", 'reasoning set to {"max_tokens": 9, "exclude": true}'),
    ("set(thinking-budget=2048)", "thinking-budget set to 2048"),
    ("set(thinking-budget=0)", "thinking-budget set to 0"),
    ('set(gemini-generation-config={"topK": 1, "topP": 0.5})',
     'gemini generation config set to: {"topK": 1, "topP": 0.5}'),
    ("set(openai_url=http://127.0.0.1:8080/v1/)", "OpenAI URL set to: http://127.0.0.1:8080/v1"),
    ("set(openai-url=https://api.allowed.example/v1)", "OpenAI URL set to: https://api.allowed.example/v1"),
    ("set(openai_url=https://one.example:8443)", "OpenAI URL set to: https://one.example:8443"),
    *((f"set({key}=true)", "loop-detection set to True") for key in ("loop-detection", "loop_detection", "loop")),
    *((f"set({key}=0)", "tool-loop-detection set to False")
      for key in ("tool-loop-detection", "tool_loop_detection", "tool-loop")),
    *((f"set({key}=5)", "tool-loop-max-repeats set to 5")
      for key in ("tool-loop-max-repeats", "tool_loop_max_repeats", "tool-loop-repeats")),
    *((f"set({key}=60)", "tool-loop-ttl set to 60")
      for key in ("tool-loop-ttl", "tool-loop-ttl-seconds", "tool_loop_ttl_seconds")),
    *((f"set({key}=chance)", "tool-loop-mode set to chance_then_break")
      for key in ("tool-loop-mode", "tool_loop_mode")),
    ("set(tool-loop-mode=break)", "tool-loop-mode set to break"),
    ("set(redact-api-keys-in-prompts=no)", "redact-api-keys-in-prompts set to False"),
    ("set(command-prefix=$/)", "command-prefix set to $/"),
    ("set(model=openai:a, temperature=1)", "model set to openai:a; temperature set to: 1.0"),
    *((f"unset({key.name})", f"{key.name} unset") for key in KEYS),
    ("unset(dir, tool-loop)", "project-dir unset; tool-loop-detection unset"),
    ("create-failover-route(name=r, policy=KM)", "failover route r created with policy km"),
    ("list-failover-routes", "configured:k"),
    ("delete-failover-route(name=configured)", "failover route configured deleted"),
    ("route-append(name=configured, openai:a, gemini/b)", "elements appended to configured"),
    ("route-prepend(name=configured, openai:a)", "elements prepended to configured"),
    ("route-clear(name=configured)", "route configured cleared"),
    ("route-list(name=configured)", "openai:gpt-5"),
    ("alias", "fast=openai:gpt-5-nano"),
    ("alias(review=Be strict, please.)", "alias review set to Be strict, please."),
]  # fmt: skip

ERRORS = [
    ("nope", "cmd not found: nope"),
    ("nope(model=x)", "cmd not found: nope"),
    ("help(nope)", "unknown command: nope"),
    ("hello(x)", "hello: too many arguments; the format is hello"),
    ("hello(x=1)", "hello: the argument x= is unknown or given twice"),
    ("pwd", "Project directory not set."),
    ("oneoff", "oneoff command requires a backend/model argument."),
    ("oneoff(gpt-5)", "oneoff command requires a backend/model argument."),
    ("oneoff(openai:)", "oneoff command requires a backend/model argument."),
    ("oneoff(nope:gpt-5)", "backend nope not supported"),
    ("set", "set: no valid parameters provided or action taken"),
    ("set(nope=1, x)", "set: no valid parameters provided or action taken"),
    ("set(temperature=1, nope=2)", f"set: nope is no parameter; {UNKNOWN_KEY}"),
    ("set(model=nope:x)", "model nope:x not supported: give backend:model or backend/model with a configured backend, "
     "a route or an alias"),
    ("set(backend=nope)", "backend nope not supported"),
    ("set(default-backend=nope)", "backend nope not supported"),
    ("set(project=)", "project=: must be a text of at most 200 printable characters"),
    ("set(project=a\x1bb)", "project=a\\x1bb: must be a text of at most 200 printable characters"),
    ("set(project-dir=/no/such/place)", "Directory '/no/such/place' not found."),
    ("set(project-dir=a\x00b)", "Directory 'a\\x00b' not found."),
    ("set(interactive=maybe)", "interactive=maybe: must be true, 1, yes, on, false, 0, no or off"),
    *((f"set(temperature={value})", "Temperature must be between 0.0 and 2.0")
      for value in ("2.1", "-0.1", "warm", "", "nan", "1e-1", "inf")),
    ("set(reasoning-effort=hard)",
     "reasoning-effort=hard: must be none, minimal, low, medium, high, xhigh or max"),
    ("set(reasoning=depth=3)", "reasoning=depth=3: must be effort=, max_tokens=, exclude=, or a JSON object of them"),
    ("set(reasoning={})", "reasoning={}: must be effort=, max_tokens=, exclude=, or a JSON object of them"),
    ("set(reasoning=effort=hard)",
     "reasoning effort=hard: must be none, minimal, low, medium, high, xhigh or max"),
    *((f"set(thinking-budget={value})", f"thinking-budget={value}: must be 0, or a whole number from 128 to 131072")
      for value in ("127", "131073", "x")),
    ("set(gemini-generation-config=[1])", "gemini-generation-config=[1]: must be a JSON object"),
    ("set(gemini-generation-config={'a': 1})", "gemini-generation-config={'a': 1}: must be a JSON object"),
    ("set(openai_url=ftp://x)",
     "openai_url=ftp://x: must be an http:// or https:// URL without user, query and fragment"),
    *((f"set(openai_url=https://{host}/v1)", f"openai_url=https://{host}/v1: the host {host.partition(':')[0]} must be "
       "this machine or one of LLM_ALLOWED_URLS")
      for host in ("evil.example", "allowed.example", "xallowed.example", "one.example", "127.0.0.1.evil.example")),
    ("set(tool-loop-max-repeats=1)", "tool-loop-max-repeats=1: must be a whole number from 2 to 1000000"),
    ("set(tool-loop-ttl=0)", "tool-loop-ttl=0: must be a whole number from 1 to 31536000"),
    ("set(tool-loop-mode=nope)", "tool-loop-mode=nope: must be break or chance_then_break"),
    ("set(loop=2)", "loop-detection=2: must be true, 1, yes, on, false, 0, no or off"),
    ("set(command-prefix=!!)",
     "command-prefix=!!: must be 2 to 10 printable characters without white space, not one character repeated"),
    ("set(command-prefix='a`')", "command-prefix=a`: must not hold quotes, commas or parentheses"),
    ("unset", "unset: nothing to do"),
    ("unset(nope)", "unset: nothing to do"),
    ("unset(model, nope)", f"unset: nope is no parameter; {UNKNOWN_KEY}"),
    *((f"create-failover-route{given}", "create-failover-route requires name and valid policy")
      for given in ("", "(name=r)", "(policy=k)", "(name=r, policy=x)", "(name=a:b, policy=k)")),
    ("create-failover-route(name=openai, policy=k)", "create-failover-route: name=openai: a backend has this name"),
    *((f"{name}(name=n, openai:a)" if "pend" in name else f"{name}(name=n)", "route n not found")
      for name in ("delete-failover-route", "route-append", "route-prepend", "route-clear", "route-list")),
    ("route-append(name=configured)", "no route elements specified"),
    ("route-prepend(name=configured)", "no route elements specified"),
    *((f"{name}(name=configured, openai:a, nope:b)", "route element nope:b: must be backend:model with a backend of "
       "openai, gemini, openrouter") for name in ("route-append", "route-prepend")),
    ("alias(set=x)", "alias set: a command has this name"),
    ("alias(a b=x)", "alias requires name=text; a name is made of letters, digits, - and _"),
    ("alias(review)", "alias requires name=text; a name is made of letters, digits, - and _"),
    ("alias(review=)", "alias review not found"),
    ("set(model=openai:x", "set: the parentheses of !/set(model=openai:x do not balance"),
    (f"set(project={'x' * LONGEST_ARGUMENTS})",
     f"set: the arguments are longer than {LONGEST_ARGUMENTS} characters"),
]  # fmt: skip


@pytest.fixture
def configured(context: Context) -> Context:
    return replace(
        context,
        configured_routes={"configured": FailoverRoute(policy="k", elements=("openai:gpt-5",))},
        configured_aliases={"fast": "openai:gpt-5-nano"},
        allowed_urls=("*.allowed.example", "one.example:8443"),
    )


@pytest.mark.parametrize(("command", "answer"), ANSWERS)
def test_answers(command: str, answer: str, configured: Context) -> None:
    outcome = run(asked(f"!/{command}"), configured)
    assert outcome == Outcome(asked(f"!/{command}"), (answer,), error=False, only_commands=True)


@pytest.mark.parametrize(("command", "answer"), ERRORS, ids=lambda text: text[:40])
def test_errors_change_nothing(command: str, answer: str, configured: Context) -> None:
    outcome = run(asked(f"!/{command}"), configured)
    assert (outcome.text, outcome.error, outcome.only_commands) == (answer, True, True)
    assert configured.session.to_json() == {}
    assert configured.server.to_json() == Server().to_json()


@pytest.mark.parametrize("name", [*all_commands(), "one-off", "!/set", "SET"])
def test_help_explains_every_command(name: str, say: Say) -> None:
    lines = say(f"!/help({name})").text.splitlines()
    plain = name.removeprefix("!/").lower()
    assert plain in lines[0].partition(" - ")[0]
    assert lines[0].endswith(".")
    assert lines[1].startswith("Format: !/")
    assert lines[2] == "Examples:"
    assert all(line.startswith(f"  !/{'oneoff' if plain == 'one-off' else plain}") for line in lines[3:])
    assert len(lines) > 3


def test_help_and_hello_name_the_prefix_that_holds(say: Say) -> None:
    say("!/set(command-prefix=$$/)")
    assert say("$$/hello").text.endswith("Type $$/help for list of available commands")
    assert "Format: $$/pwd" in say("$$/help(pwd)").text
    assert say("!/hello").answers == ()


def test_project_dir_is_what_pwd_says(say: Say, tmp_path: Path) -> None:
    assert say(f"!/set(dir={tmp_path})").text == f"project-dir set to {tmp_path}"
    assert say("!/pwd").text == str(tmp_path)
    assert say(f'!/set(project-directory="{tmp_path}")').text == f"project-dir set to {tmp_path}"
    say("!/unset(project-dir)")
    assert say("!/pwd").error


def test_what_set_leaves_in_the_session(say: Say, context: Context) -> None:
    say("!/set(model=openai/a, temperature=0.5, reasoning=effort=low, tool-loop-ttl=9, project=p)")
    say('!/set(gemini-generation-config={"a": {"b": [1, "x,)"]}}, loop=off)')
    assert context.session.to_json() == {
        "model": "openai:a",
        "temperature": 0.5,
        "reasoning": {"effort": "low"},
        "tool_loop_ttl": 9,
        "project": "p",
        "generation_config": {"a": {"b": [1, "x,)"]}},
        "loop_detection": False,
    }
    say("!/unset(model, temperature, reasoning, tool-loop-ttl, project, gemini-generation-config, loop)")
    assert context.session.to_json() == {}


def test_set_is_all_or_nothing(say: Say, context: Context) -> None:
    say("!/set(model=openai:a)")
    outcome = say("!/set(backend=gemini, default-backend=openai, command-prefix=$/, temperature=9)")
    assert outcome.text == "Temperature must be between 0.0 and 2.0"
    assert context.session.to_json() == {"model": "openai:a"}
    assert context.server.to_json() == Server().to_json()


def test_a_backend_clears_the_model_and_a_model_after_it_holds(say: Say, context: Context) -> None:
    say("!/set(model=openai:a)")
    say("!/set(backend=gemini)")
    assert context.session.to_json() == {"backend": "gemini"}
    say("!/set(backend=gemini, model=openai:b)")
    assert context.session.to_json() == {"backend": "gemini", "model": "openai:b"}


def test_server_values_hold_for_other_sessions_and_session_values_do_not(say: Say, context: Context) -> None:
    say("!/set(model=openai:a, default-backend=gemini, redact-api-keys-in-prompts=off)")
    say("!/create-failover-route(name=r, policy=m)")
    other = replace(context, session=Session("client/other"))
    assert (other.default_backend, other.redact, list(other.routes)) == ("gemini", False, ["r"])
    assert other.session.to_json() == {}
    say("!/unset(default-backend, redact-api-keys-in-prompts)")
    assert (context.default_backend, context.redact) == (None, True)


def test_the_life_of_a_route(say: Say, configured: Context) -> None:
    def tell(text: str) -> str:
        return run(asked(f"!/{text}"), configured).text

    tell("create-failover-route(name=r, policy=mk)")
    assert tell("list-failover-routes") == "configured:k, r:mk"
    assert tell("route-list(name=r)") == "<empty>"
    tell("route-append(name=r, openai:a, gemini/b)")
    tell("route-prepend(openrouter:c/d, openai:e, name=r)")
    assert tell("route-list(name=r)") == "openrouter:c/d, openai:e, openai:a, gemini:b"
    tell("route-append(name=configured, gemini:x)")
    assert tell("route-list(name=configured)") == "openai:gpt-5, gemini:x"
    assert tell("set(model=r)") == "model set to r"
    tell("route-clear(name=r)")
    assert tell("route-list(name=r)") == "<empty>"
    tell("delete-failover-route(name=configured)")
    tell("delete-failover-route(name=r)")
    assert tell("list-failover-routes") == "no failover routes defined"
    assert Server.from_json(configured.server.to_json()).routes == {"configured": None}
    assert tell("delete-failover-route(name=configured)") == "route configured not found"


def test_status_shows_what_is_set_the_keys_and_the_usage(context: Context) -> None:
    route = {"r": FailoverRoute(policy="k", elements=("openai:a",))}
    usage: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.25, "unpriced": 2, "requests": 3}
    states = ("openai:a key 1: cool-down for 9 s",)
    here = replace(context, configured_routes=route, usage=lambda: usage, key_states=lambda: states)
    run(asked("!/set(model=r, temperature=0.5) !/oneoff(gemini:x)"), here)
    assert run(asked("!/status"), here).text.splitlines() == [
        "Session: mine",
        "model: r",
        "temperature: 0.5",
        "next prompt: gemini:x",
        "default backend: by model name",
        "redact-api-keys-in-prompts: True",
        "route r: policy k, openai:a",
        "keys: openai:a key 1: cool-down for 9 s",
        "today: 15 tokens (10 in, 5 out), $0.2500 and 2 requests of unknown cost",
    ]
    unpriced = replace(here, usage=lambda: {**usage, "cost": None})
    assert run(asked("!/status"), unpriced).text.endswith("today: 15 tokens (10 in, 5 out), unknown cost")
    assert run(asked("!/status"), context).text.endswith("keys: all ready\ntoday: no usage recorded")


# what becomes of the request


def test_a_prompt_goes_on_without_its_commands(say: Say, context: Context) -> None:
    outcome = say("!/set(model=openai:a)\nWhat is  `!/this`?\n")
    assert outcome.answers == ("model set to openai:a",)
    assert not outcome.is_local
    assert prompt(outcome) == "What is  `!/this`?\n"
    assert outcome.conversation.changed == {"messages"}


def test_a_failed_command_stops_the_prompt_and_the_others_still_run(say: Say, context: Context) -> None:
    outcome = say("!/set(temperature=3) !/set(project=p) !/nope do it")
    assert outcome.answers == (
        "Temperature must be between 0.0 and 2.0",
        "project set to p",
        "cmd not found: nope",
    )
    assert (outcome.error, outcome.only_commands, outcome.is_local) == (True, False, True)
    assert context.session.project == "p"


def test_nothing_is_run_of_a_message_that_cannot_be_read_whole(say: Say, context: Context) -> None:
    outcome = say("!/set(project=p) and !/set(model=openai:a do\nit")
    assert outcome.text == "set: the parentheses of !/set(model=openai:a do do not balance"
    assert outcome.is_local
    assert context.session.project is None
    assert say("!/set(project=p) " * 101).text == "more than 100 commands in one message: none was run"
    assert context.session.project is None


def test_text_without_commands_is_the_same_object(say: Say, context: Context) -> None:
    conversation = asked("hello `!/x`", "there")
    assert run(conversation, context).conversation is conversation


def test_other_parts_are_content(context: Context) -> None:
    image = Media(kind="image", url="u")
    message = Message(role="user", parts=(Text(text="!/set(project=p)"), image))
    outcome = run(Conversation(model="m", messages=(message,)), context)
    assert not outcome.only_commands
    assert outcome.conversation.messages[0].parts == (image,)


def test_only_texts_of_the_newest_user_message_are_read(context: Context) -> None:
    typed = "!/set(project=p)"
    call = ToolCall(id="1", name="f", arguments="{}")
    result = ToolResult(call_id="1", parts=(Text(text=typed),))
    said = Message(role="user", parts=(Text(text=typed),))
    for messages in (
        (said, Message(role="assistant", parts=(call,)), Message(role="user", parts=(result,))),
        (said, Message(role="assistant", parts=(call,)), Message(role="tool", parts=(result,))),
        (Message(role="system", parts=(Text(text=typed),)), asked("hi").messages[0]),
        (said, Message(role="assistant", parts=(Text(text=typed),)), asked("hi").messages[0]),
        (said, asked("hi").messages[0]),
    ):
        conversation = Conversation(model="m", messages=messages, system=(Text(text=typed),))
        assert run(conversation, context) == Outcome(conversation)
    assert context.session.project is None


def test_a_newest_message_before_a_prefill_counts(context: Context) -> None:
    prefill = Message(role="assistant", parts=(Text(text="{"),))
    messages = (*asked("!/set(project=p) go").messages, prefill)
    outcome = run(Conversation(model="m", messages=messages), context)
    assert outcome.conversation.messages == (*asked("go").messages, prefill)


def test_comments_and_what_clients_add_are_no_prompt(context: Context) -> None:
    for texts in (
        ("# a note\n!/hello",),
        ("<task>\n!/hello\n</task>", "<environment_details>\nfiles\n</environment_details>"),
        ("<system-reminder>\nCLAUDE.md says !/nope\n</system-reminder>\n", "!/hello"),
        ("<session_context>\nToday is !/nope\n</session_context>", "!/hello"),
    ):
        outcome = run(asked(*texts), context)
        assert outcome.only_commands
        assert not outcome.error
        assert len(outcome.answers) == 1


def test_cache_marks_of_an_edited_part_stay(context: Context) -> None:
    own = {"type": "text", "text": "!/set(project=p) hi", "cache_control": {"type": "ephemeral"}}
    part = Text(text=own["text"], source=Source("anthropic_messages", own))  # type: ignore[arg-type]
    other = Text(text="there", source=Source("anthropic_messages", {"type": "text", "text": "there"}))
    message = Message(role="user", parts=(part, other), source=Source("anthropic_messages", {"role": "user"}))
    edited = run(Conversation(model="m", messages=(message,)), context).conversation.messages[0]
    assert edited.source is None
    assert edited.parts[0].read_by("anthropic_messages") == {**own, "text": "hi"}
    assert edited.parts[1] is other
    assert json.loads(json.dumps(own))["text"] == "!/set(project=p) hi"


def test_aliases_of_models_texts_and_commands(say: Say, context: Context) -> None:
    say("!/alias(fast=openai:gpt-5-nano)")
    say("!/alias(review=Review this, strictly:)")
    say("!/alias(Careful=!/set(temperature=0) !/set(project=p))")
    assert say("!/fast").answers == ("model set to openai:gpt-5-nano",)
    assert say("!/FAST now").answers == ("model set to openai:gpt-5-nano",)
    reviewed = say("!/review x = 1")
    assert (prompt(reviewed), reviewed.answers) == ("Review this, strictly: x = 1", ())
    assert say("!/careful").answers == ("temperature set to: 0.0", "project set to p")
    assert say("!/set(model=fast)").text == "model set to openai:gpt-5-nano"
    assert say("!/fast(x)").text == "cmd not found: fast"
    assert say("!/alias").text.startswith("fast=openai:gpt-5-nano, review=")
    assert say("!/alias(fast=)").text == "alias fast removed"
    assert say("!/fast").text == "cmd not found: fast"
    assert "review" in context.session.aliases


def test_an_alias_of_itself_is_an_error(say: Say) -> None:
    say("!/alias(loop=!/loop !/loop)")
    outcome = say("!/loop")
    assert outcome.error
    assert outcome.text == "alias loop: refers to itself or too many others"


def test_a_prefix_that_was_left_is_text_again(say: Say, context: Context) -> None:
    say("!/set(command-prefix=$/)")
    assert context.server.former_prefixes == ["!/"]
    assert say("!/hello").answers == ()
    assert say("$/set(command-prefix=!/)").answers == ("command-prefix set to !/",)
    assert context.server.former_prefixes == ["$/"]
    say("!/set(command-prefix=%/)")
    say("%/unset(command-prefix)")
    assert context.prefix == "!/"
    assert say("!/pwd").error
