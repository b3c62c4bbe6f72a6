"""What SPEC 5.1 says of where commands are read, and that nothing else of a text changes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_interactive.commands.scanner import LONGEST_ARGUMENTS, MOST_COMMANDS, Found, remainder, scan


def names(text: str, prefix: str = "!/") -> list[str]:
    return [found.name for found in scan(text, prefix)]


def rest(text: str, prefix: str = "!/") -> str:
    return remainder(text, scan(text, prefix))


def arguments(text: str) -> str | None:
    (found,) = scan(text, "!/")
    assert found.problem is None
    return found.arguments


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("!/hello", ["hello"]),
        ("say !/hello now", ["hello"]),
        ("a\n!/hello", ["hello"]),
        ("a\t!/one-off", ["one-off"]),
        ("a\u3000!/hello", ["hello"]),
        ("!/hello()", ["hello"]),
        ("!/HeLLo", ["HeLLo"]),
        ("!/a !/b(x)!/c", ["a", "b"]),
        ("!/hello.", ["hello"]),
        ("x!/hello", []),
        ('type "!/hello"', []),
        ("(!/hello)", []),
        ("!/ hello", []),
        ("!/", []),
        ("!/(x)", []),
        ("!/1st", []),
        ("!/usr/bin/env", []),
        ("!/users\\me", []),
        ("!!/hello", []),
    ],
)
def test_where_a_command_may_stand(text: str, found: list[str]) -> None:
    assert names(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "`!/hello`",
        "use ` !/hello ` here",
        "``a ` !/hello ``",
        "`a\n!/hello b`",
        "```\n!/hello\n```",
        "```sh\n!/hello\n``\n!/hello\n```",
        "~~~\n!/hello\n```\n!/hello",
        "````\n```\n!/hello\n````",
        "- ```\n  !/hello\n  ```",
        "> ```\n> !/hello\n> ```",
        "# !/hello",
        "a\n# !/hello",
        "  # see !/hello",
        "> he said !/hello",
        "<system-reminder>\nsay !/hello\n</system-reminder>",
        "<environment_details>\n!/hello\n</environment_details> ",
    ],
)
def test_where_commands_are_not_read(text: str) -> None:
    assert scan(text, "!/") == []


@pytest.mark.parametrize(
    "text",
    [
        "a ` b\n\n!/hello `",
        "``a` !/hello",
        "```\ncode\n```\n!/hello",
        "```code``` !/hello",
        "~~~\ncode\n~~~~\n!/hello",
        "`code` !/hello `code`",
        "a #1 !/hello",
        "# comment\n!/hello",
        "<task>\n!/hello\n</task>",
        "<system-reminder>\n!/hello",
        "<system-reminder>a</system-reminder>\n!/hello",
        "```\na\n```\n\nand `b`\n\n```\nc\n```\n !/hello",
    ],
)
def test_where_code_or_a_comment_has_ended(text: str) -> None:
    assert names(text) == ["hello"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("!/a hello", "hello"),
        ("hello !/a", "hello"),
        ("hello !/a world", "hello world"),
        ("hello !/a   world", "hello world"),
        ("    !/a code", "    code"),
        ("hello !/a !/b", "hello"),
        ("!/a !/b hello", "hello"),
        ("!/a", ""),
        ("  !/a  ", ""),
        ("one\n!/a\ntwo", "one\ntwo"),
        ("one\r\n  !/a \r\ntwo\r\n", "one\r\ntwo\r\n"),
        ("one\n!/a !/b\ntwo", "one\ntwo"),
        ("!/a\n!/b\nhello", "hello"),
        ("!/a\n\nhello", "\nhello"),
        ("one !/a\ntwo", "one\ntwo"),
        ("one\n!/a", "one\n"),
        ("one\n\n\n!/a(x,\n y)\n\ntwo  \n", "one\n\n\n\ntwo  \n"),
        ("one\n!/a(1,\n2) two", "one\ntwo"),
        ("\ttab !/a\x85next", "\ttab next"),
        ("!/a!/b", "!/b"),
        ("!/hello, you", ", you"),
    ],
)
def test_what_remains(text: str, left: str) -> None:
    assert rest(text) == left


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("!/a", None),
        ("!/a()", ""),
        ("!/a (x)", None),
        ("!/a(x) (y)", "x"),
        ("!/a(f(x), g(y))", "f(x), g(y)"),
        ("!/a(p='a) b')", "p='a) b'"),
        ('!/a(p="a) \\" b")', 'p="a) \\" b"'),
        ("!/a(p=Bob's app) what's that", "p=Bob's app"),
        ("!/a(p='tis) so", "p='tis"),
        ('!/a(c={"stop": [")", "("]})', 'c={"stop": [")", "("]}'),
        ("!/a(\n x\n)", "\n x\n"),
        ("!/a(\x00\x1b[31m)", "\x00\x1b[31m"),
    ],
)
def test_arguments_end_with_the_balanced_parenthesis(text: str, inside: str | None) -> None:
    assert arguments(text) == inside


def test_unbalanced_parentheses_are_a_problem_and_swallow_no_more_than_their_line() -> None:
    text = "before\n!/set(model=x hello\nafter (all)"
    (found,) = scan(text, "!/")
    assert found.problem == "set: the parentheses of !/set(model=x hello do not balance"
    assert found.arguments is None
    assert remainder(text, [found]) == "before\nafter (all)"


def test_a_problem_shows_no_control_characters_and_not_everything() -> None:
    (found,) = scan("!/set(\x1b[31m" + "x" * 1000, "!/")
    assert found.problem is not None
    assert "\\x1b[31m" in found.problem
    assert len(found.problem) < 130
    assert found.problem.isprintable()


def test_huge_arguments_are_a_problem() -> None:
    (found,) = scan(f"!/set(project={'x' * LONGEST_ARGUMENTS}) go on", "!/")
    assert found == Found("set", None, 0, 15 + LONGEST_ARGUMENTS, found.problem)
    assert found.problem == f"set: the arguments are longer than {LONGEST_ARGUMENTS} characters"


def test_too_many_commands_are_a_problem() -> None:
    found = scan("!/hello " * 100_000, "!/")
    assert len(found) == MOST_COMMANDS + 1
    assert [each.problem for each in found[:-1]] == [None] * MOST_COMMANDS
    assert found[-1].problem is not None


@pytest.mark.parametrize("prefix", ["$$!", "/x", ">/", "#!", "**a", "[]"])
def test_other_prefixes(prefix: str) -> None:
    assert names(f"{prefix}hello and {prefix}pwd", prefix) == ["hello", "pwd"]
    assert names("!/hello", prefix) == []


@pytest.mark.parametrize(
    "text",
    [
        "!/a(" * 250_000,
        "!/a " + "`" * 1_000_000,
        "!/a " + "` `` ``` " * 100_000,
        "!/a(" + "'" * 1_000_000,
        '!/a("' + "\\" * 1_000_000,
        "!/a </ " + "<system-reminder>" * 60_000,
        "!/a" + " " * 1_000_000,
        "!/a(" + "(" * 1_000_000,
        "!/a\n" + "- ```\n" * 200_000,
        "!/a" * 300_000,
        "!/" * 500_000,
        '!/a("x' * 150_000,
    ],
    ids=lambda text: text[:12].strip(),
)
def test_no_text_takes_long(text: str) -> None:
    """A quadratic scan would take minutes for each of these."""
    assert len(remainder(text, scan(text, "!/"))) <= len(text)


lines = st.text(
    st.characters(exclude_characters="`~#>!</\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029", codec="utf-8"), max_size=30
)


@given(st.text())
def test_text_without_the_prefix_is_unchanged(text: str) -> None:
    text = text.replace("!/", "")
    assert scan(text, "!/") == []
    assert remainder(text, []) == text


@given(st.lists(lines, min_size=1, max_size=6), st.data())
def test_a_command_on_its_own_line_is_found_and_the_rest_stays(before: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(before)))
    typed = data.draw(st.sampled_from(["!/pwd", "!/set(model=a:b)", '!/set(c={"a": [1, ")"]})', "!/help()"]))
    whole = [line + "\n" for line in before]
    text = "".join([*whole[:place], typed + "\n", *whole[place:]])
    found = scan(text, "!/")
    assert [text[each.start : each.end] for each in found] == [typed]
    assert remainder(text, found) == "".join(whole)


@given(lines.filter(lambda text: text.strip() and not text[0].isspace()), lines.map(str.rstrip).filter(bool))
def test_a_command_between_words_is_found_and_the_rest_stays(before: str, after: str) -> None:
    after = after.lstrip() or "x"
    before = before.rstrip() or "x"
    text = f"{before} !/set(temperature=1) {after}"
    found = scan(text, "!/")
    assert [each.name for each in found] == ["set"]
    assert remainder(text, found) == f"{before} {after}"


@given(st.text(st.sampled_from("!/ab()`'\"\n\r #>~{}[],=<\\"), max_size=60))
def test_any_text_is_read_and_what_stays_is_of_it_in_order(text: str) -> None:
    found = scan(text, "!/")
    assert all(one.end <= two.start for one, two in pairwise(found))
    left = iter(text)
    assert all(char in left for char in remainder(text, found))
