"""What a user hands over is bounded before it is expanded, and otherwise read as the libraries read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from latentshift.user_input.bounded_read import (
    load_json_bounded,
    load_yaml_bounded,
    parse_json_bounded,
    parse_yaml_bounded,
    read_text_bounded,
)


def test_text_is_utf8_without_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa dög\r\n".encode())
    assert read_text_bounded(path) == "a dög\r\n"
    assert read_text_bounded(path, max_bytes=len(path.read_bytes())) == "a dög\r\n"
    with pytest.raises(ValueError, match=r"a\.txt: it is longer than 9 bytes"):
        read_text_bounded(path, max_bytes=9)
    path.write_bytes(b"a d\xf6g")
    with pytest.raises(ValueError, match=r"a\.txt: it is not UTF-8 text \(byte 3"):
        read_text_bounded(path)
    with pytest.raises(ValueError, match="No such file"):
        read_text_bounded(tmp_path / "none")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless device")
def test_an_endless_device_ends() -> None:
    with pytest.raises(ValueError, match="/dev/zero: it is longer than 1,000 bytes"):
        read_text_bounded(Path("/dev/zero"), max_bytes=1000, pipes=True)
    with pytest.raises(ValueError, match="/dev/zero: it is a pipe or device, and no file"):
        read_text_bounded(Path("/dev/zero"), max_bytes=1000)


def test_json_is_what_the_library_reads(tmp_path: Path) -> None:
    values = {"a": [1, {"b": '[[[{{"}, "], ['}, None], "c": 1.5}
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert load_json_bounded(tmp_path / "a.json") == values
    brackets = json.dumps(["[" * 200, '"[\\' * 50])
    assert parse_json_bounded(brackets, "x") == json.loads(brackets)
    flat = json.dumps([[]] * 500)
    assert parse_json_bounded(flat, "x") == [[]] * 500


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 300_000, "x is nested more than 64 deep"),
        ('{"a":' * 300_000 + "1" + "}" * 300_000, "x is nested more than 64 deep"),
        ('{"text": "a", "text": "b"}', "x is no JSON: the key 'text' is given twice"),
        ("1" * 5000, "x is no JSON: a number in it has more than 4,300 digits$"),
        ("{", "x is no JSON"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json_bounded(text, "x")


def test_yaml_is_what_the_library_reads(tmp_path: Path) -> None:
    text = "a: &a {b: 1, c: [1.5, x]}\nd: *a\ne: {<<: *a, b: 2}\nf: {<<: [*a, {g: 1}], c: 3}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert load_yaml_bounded(tmp_path / "a.yaml") == yaml.safe_load(text)
    assert parse_yaml_bounded("", "x") is None and parse_yaml_bounded("1e-4", "x") == yaml.safe_load("1e-4")


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "x is not YAML that can be read: with its aliases it stands for more than 100,000 values"),
        ("[" * 100_000, "it is nested more than 64 deep"),
        ("a: &a [*a]", "an alias refers to what it stands in"),
        ("a: 1\nb: 2\na: 3\n", r"the key 'a' is given twice \(line 1\)"),
        ("a: 2026-13-45", "x is not YAML that can be read"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: [", "x is not YAML"),
        ("a: " + "1" * 5000, "x is not YAML that can be read: a number in it has more than 4,300 digits$"),
    ],
)
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_yaml_bounded(text, "x")
