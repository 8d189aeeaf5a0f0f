"""Extractors' files: taken in by checksum or by the user's word, and read only as they were taken in."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from latentshift.evaluation.extractors import cache
from latentshift.evaluation.extractors.add import add_extractor
from latentshift.evaluation.extractors.cache import cache_folder, find_extractor, require_extractor
from latentshift.evaluation.extractors.known import EXTRACTORS, KnownExtractor, KnownFile

GOOD, OTHER = b"the weights", b"other weights"


def known(name: str, *files: KnownFile) -> KnownExtractor:
    return KnownExtractor(
        name, "a test", files, "a place", "a licence", per="frame", outputs={"features": 2}, resize="none"
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder; the table also has an extractor of one file and one of two."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setitem(EXTRACTORS, "one", known("one", KnownFile("one.pt", sha256(GOOD))))
    two = (KnownFile("two.bin", sha256(GOOD), alternative="two.safetensors"), KnownFile("two.json", sha256(b"{}")))
    monkeypatch.setitem(EXTRACTORS, "two", known("two", *two))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "download (1)"
    path.write_bytes(GOOD)
    return path


def test_the_table_has_whole_checksums_that_agree_with_the_names() -> None:
    for name, each in EXTRACTORS.items():
        assert name == each.name and each.source and each.licence and each.resize and each.outputs
        for file in each.files:
            assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
            for prefix in re.findall(r"-([0-9a-f]{8})\.pth$", file.name):
                assert file.sha256 is not None and file.sha256.startswith(prefix)


def test_a_known_checksum_is_enough_whatever_the_name(file: Path, folder: Path) -> None:
    assert find_extractor("one") is None
    added = add_extractor(file)
    found = find_extractor("one")
    assert found == added and found.verified and found.sha256 == sha256(GOOD)
    assert found.read("one.pt") == GOOD
    assert sorted(path.name for path in folder.rglob("*")) == ["one", "one.pt", "record.json"]


def test_an_unknown_checksum_is_refused_and_leaves_nothing(file: Path, folder: Path) -> None:
    file = file.rename(file.with_name("one.pt"))
    file.write_bytes(OTHER)
    with pytest.raises(ValueError, match=f"{sha256(OTHER)}, which is not .*{sha256(GOOD)}.*--unverified one"):
        add_extractor(file)
    assert not folder.exists()


def test_the_users_word_is_remembered_until_the_known_file_comes(file: Path) -> None:
    file.write_bytes(OTHER)
    assert not add_extractor(file, "one").verified
    found = find_extractor("one")
    assert found is not None and not found.verified and found.read("one.pt") == OTHER
    file.write_bytes(GOOD)
    assert add_extractor(file, "one").verified  # the word changes nothing about a known file
    found = find_extractor("one")
    assert found is not None and found.verified and found.read("one.pt") == GOOD


def test_a_known_file_is_not_taken_for_another(file: Path) -> None:
    with pytest.raises(ValueError, match="is the known file of one, and not one of c3d"):
        add_extractor(file, "c3d")


def test_a_file_that_was_changed_in_the_cache_is_not_read(file: Path, folder: Path) -> None:
    added = add_extractor(file)
    (folder / "one" / "one.pt").write_bytes(OTHER)
    with pytest.raises(ValueError, match="was changed since it was added"):
        added.read("one.pt")


def test_a_record_can_not_make_an_unknown_file_a_verified_one(file: Path, folder: Path) -> None:
    file.write_bytes(OTHER)
    add_extractor(file, "one")
    path = folder / "one" / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "unverified": False}))
    with pytest.raises(ValueError, match="names files that are not known ones"):
        find_extractor("one")


@pytest.mark.parametrize(
    "damage",
    [
        {"files": {"../one.pt": sha256(GOOD)}},
        {"files": {"one.pt": "short"}},
        {"files": []},
        {"name": "i3d"},
        {"unverified": "no"},
        {"format": "x"},
    ],
)
def test_a_damaged_record_is_a_sentence(file: Path, folder: Path, damage: dict[str, object]) -> None:
    add_extractor(file)
    path = folder / "one" / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    with pytest.raises(ValueError, match=r"is damaged; get one\.pt"):
        find_extractor("one")


def test_of_a_folder_only_the_extractors_files_are_taken(tmp_path: Path, folder: Path) -> None:
    source = tmp_path / "snapshot"
    source.mkdir()
    (source / "two.json").write_bytes(b"{}")
    with pytest.raises(ValueError, match="is not the folder of a known extractor"):
        add_extractor(source)
    (source / "two.safetensors").write_bytes(OTHER)
    (source / "code.py").write_text("raise SystemExit")
    with pytest.raises(ValueError, match=r"two.safetensors is there in its place, whose checksum is not known"):
        add_extractor(source)
    assert not add_extractor(source, "two").verified
    assert sorted(path.name for path in (folder / "two").iterdir()) == ["record.json", "two.json", "two.safetensors"]
    (source / "two.bin").write_bytes(GOOD)
    added = add_extractor(source)
    assert added.verified and list(added.hashes) == ["two.bin", "two.json"] and find_extractor("two") == added
    (folder / "two" / "two.json").unlink()
    with pytest.raises(ValueError, match=r"is incomplete: two\.json is gone"):
        find_extractor("two")


def test_what_is_missing_says_where_it_comes_from_and_how_it_is_added() -> None:
    with pytest.raises(ValueError, match=r"extractor i3d .* is missing: get i3d_torchscript\.pt") as refused:
        require_extractor("i3d")
    i3d = EXTRACTORS["i3d"]
    for part in (i3d.source, str(i3d.weights.sha256), "51,235,320 bytes", "licence: none stated"):
        assert part in str(refused.value)
    assert str(refused.value).endswith("`latentshift evaluate extractors --add i3d_torchscript.pt`")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache"),
        ("linux", {"XDG_CACHE_HOME": "/cache"}, "/cache"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache"),
        ("darwin", {"XDG_CACHE_HOME": "/cache"}, "home/Library/Caches"),
        ("win32", {}, "home/AppData/Local"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local"),
    ],
)
def test_the_default_folder_follows_the_platform(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in (cache.VARIABLE, "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == tmp_path / expected / "latentshift" / "extractors"


def test_the_list_says_what_is_there_and_what_is_not_verified(cli, file: Path, folder: Path) -> None:
    file.write_bytes(OTHER)
    code, out, err = cli("evaluate", "extractors", "--add", file)
    assert code == 1 and not out and "only taken without a check if you say whose it is: --unverified NAME" in err
    code, out, err = cli("evaluate", "extractors", "--add", file, "--unverified", "c3d")
    assert (code, err) == (0, "") and out == f"c3d: {folder / 'c3d'}, SHA-256 {sha256(OTHER)}, not verified\n"
    file.write_bytes(GOOD)
    assert cli("evaluate", "extractors", "--add", file)[1].endswith("verified\n")
    (folder / "two").mkdir()
    code, out, err = cli("evaluate", "extractors")
    assert (code, err) == (0, "")
    states = dict(re.findall(r"^([\w-]+): .*; (missing|damaged|there, (?:not )?verified)", out, flags=re.MULTILINE))
    assert states == {
        "inception-2015": "missing",
        "i3d": "missing",
        "c3d": "there, not verified",
        "clip": "missing",
        "one": "there, verified",
        "two": "damaged",
    }
    assert f"not verified, the one that is there: c3d_ucf101.pt, SHA-256 {sha256(OTHER)}" in out
    for each in EXTRACTORS.values():
        assert each.source in out and all(str(file.sha256) in out for file in each.files if file.sha256)
