from __future__ import annotations

from pathlib import Path

import pytest

from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.yaml_files import MAX_BYTES, YamlError, as_bool, parse_yaml, read_yaml, spelled


@pytest.mark.parametrize(
    "name",
    [
        "0012",
        "10",
        "1_000",
        "12:30",
        "12:30:45",
        "2017-01-02",
        "0x1F",
        "0o17",
        "0b11",
        "1e3",
        "1.50",
        ".5",
        "+5",
        "-0",
        "010.5",
        "yes",
        "no",
        "on",
        "OFF",
        "y",
        "n",
        "=",
        "9" * 400,
        "Müller",
        ".inf",
        "08",
        "1.",
        "~user",
        "00",
        "nan",
    ],
)
def test_a_name_keeps_its_spelling(name: str) -> None:
    [value] = parse_yaml(f"[{name}]")
    assert spelled(value, "it") == name
    assert spelled(parse_yaml(f"'{name}'"), "it") == name
    [key] = parse_yaml(f"{name}: 1")
    assert spelled(key, "it") == name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("true", "sequences is true, a truth value; write it in quotes"),
        ("False", "is false, a truth value; write it in quotes"),
        ("null", "is empty; write a text, or one in quotes"),
        ("~", "is empty; write a text, or one in quotes"),
        ("", "is empty"),
        ("[a]", "is a list; give a single name"),
        ("{a: 1}", "is a mapping; give a single name"),
    ],
)
def test_what_is_no_name_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        spelled(parse_yaml(text), "sequences")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("1e-3", 1e-3),
        ("2.50", 2.5),
        ("-.5", -0.5),
        (".inf", float("inf")),
        ("true", True),
        ("a: {<<: {b: 1}, b: 2}", {"a": {"b": 2}}),
        ("\ufeffa: 1\r\n", {"a": 1}),
        ("", None),
        ("x: {y: &a {<<: {k: 1}, k: 2}}\nb: {<<: *a}", {"x": {"y": {"k": 2}}, "b": {"k": 2}}),
    ],
)
def test_values_are_those_of_yaml(text: str, value: object) -> None:
    for content in (text, text.encode(), text.encode("utf-16")):
        assert parse_yaml(content) == value


LETTERS = zip("abcdefg", "bcdefgh", strict=True)
BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 20)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\nb: 2\na: 3", "line 3 has the key 'a' a second time"),
        ("x: {0012: 1, 0012: 2}", "the key '0012' a second time"),
        (BOMB, "beyond the limit of 200000 values"),
        ("a: &a [*a]", "refers to 'a', which is not there before it"),
        ("[" * 1_000_000, "65 levels deep and 64 are the limit"),
        ("{a: " * 100_000, "65 levels deep"),
        ("? [1]\n: 2", "a list or a mapping as a key"),
        ("a" * (MAX_BYTES + 1), "are the limit"),
        (b"a: \xff\xfe", "not UTF-8 text"),
        ("a:\n\t- b", "cannot start any token in line 2"),
        ("--- a\n--- b", "found another document"),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("!!timestamp 2017-13-99", "could not determine a constructor"),
        ("!!bool x", "impossible value"),
        ("!!int x", "impossible value"),
    ],
)
def test_what_is_refused_is_a_clause(content: str | bytes, said: str) -> None:
    with pytest.raises(YamlError, match=said) as caught:
        parse_yaml(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, r"The list .*x\.yaml cannot be read \(No such file"),
        ("a: [", r"The list .*x\.yaml is not readable YAML: .*line 2"),
        (" " * 11, r"x\.yaml is larger than"),
    ],
)
def test_a_file_is_named(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "x.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match=said):
        read_yaml(path, "The list", error=DatasetError, max_bytes=10)


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("yes", True), ("OFF", False), ("no", False)])
def test_truth_values(value: object, expected: bool) -> None:
    assert as_bool(value, "x") is expected


@pytest.mark.parametrize("value", ["maybe", 1, None, "y"])
def test_what_is_no_truth_value(value: object) -> None:
    with pytest.raises(ConfigError, match="give true or false"):
        as_bool(value, "x")
