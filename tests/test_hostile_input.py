"""Inputs that are wrong on purpose, or by a Mac, a spreadsheet or an accident: each costs one row or one sentence."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import textwrap
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latentshift.cli.prompts_file import read_prompts
from latentshift.cli.resumable import ends_cleanly
from latentshift.data.content import content_hash
from latentshift.data.manifest import Manifest, RejectedRow, Row
from latentshift.data.sources import list_source, parse_source
from latentshift.files import explain_full_disk
from latentshift.preemption import Terminated
from latentshift.training.recipe_file import load_recipe
from latentshift.user_input.error_text import printable
from latentshift.video import read_metadata, write_video


def read(words: object, **options: object) -> tuple[list[str], list[tuple[str, str, str]], list[str]]:
    """File names of the rows; name, kind and reason of what is left out; names of what is ignored."""
    ignored: list[str] = []
    entries = list(parse_source(str(words), options).entries(ignored.append))
    rows = [Path(each.member or each.file).name for each in entries if isinstance(each, Row)]
    rejected = [
        (Path(each.name).name, str(each.kind), each.reason) for each in entries if isinstance(each, RejectedRow)
    ]
    return rows, rejected, [Path(each).name for each in ignored]


def clip(path: Path, caption: str | None = "a clip") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


CSV = "file_name,text\na.mp4,a dog\n"


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        ("b.mp4,a dog, running fast", "bad-row", "it has 3 fields, and the first line names 2"),
        ('b.mp4,"a ""dog""" runs', "bad-row", "it can't be read as csv"),
        ("../b.mp4,a dog", "unsafe-member", "lies outside of"),
        ("/etc/b.mp4,a dog", "unsafe-member", "set allow_outside=true"),
        ("sub/../../b.mp4,a dog", "unsafe-member", "lies outside of"),
        ("b.mp4", "bad-row", "its text must be a sentence"),
    ],
)
def test_a_row_of_a_csv_costs_itself(tmp_path: Path, row: str, kind: str, reason: str) -> None:
    clip(tmp_path / "a.mp4", None)
    clip(tmp_path / "c.mp4", None)
    (tmp_path / "metadata.csv").write_text(f"{CSV}{row}\nc.mp4,the end\n")
    rows, (rejected,), _ = read(tmp_path)
    assert rows == ["a.mp4", "c.mp4"]
    assert rejected[1] == kind and reason in rejected[2]
    assert "metadata.csv line 3" in rejected[0] + rejected[2]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"file_name": "b.mp4", "text": "a", "text": "b"}', "the key 'text' is given twice"),
        ('{"file_name": "b.mp4", "text": ' + "[" * 300_000, "nested more than 64 deep"),
        ('{"file_name": "b.mp4", "text": "a"', "it is no JSON"),
        ("[1, 2]", "it must hold an object"),
        ('{"file_name": "b.mp4", "text": "\\ud800"}', r"its caption holds '\ud800', which is no character"),
        ('{"file_name": "b\\u0000.mp4", "text": "a"}', "holds a null"),
    ],
)
def test_a_line_of_a_jsonl_costs_itself(tmp_path: Path, row: str, reason: str) -> None:
    clip(tmp_path / "a.mp4", None)
    good = '{"file_name": "a.mp4", "text": "a"}\n'
    (tmp_path / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + f"{good}{row}\n".encode())
    rows, (rejected,), _ = read(tmp_path)
    assert rows == ["a.mp4"]
    assert rejected[1] == "bad-row" and reason in rejected[2] and "metadata.jsonl line 2" in " ".join(rejected)


def test_a_line_of_a_manifest_costs_itself(tmp_path: Path) -> None:
    good = json.dumps({"file": "a.mp4", "captions": ["a"], "source": "s"})
    lines = ["\ufeff" + good, "{", "", '{"file": "b.mp4"}', "[" * 300_000, good]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows, rejected, _ = read(tmp_path / "rows.jsonl")
    assert rows == ["a.mp4", "a.mp4"]
    assert [each[0] for each in rejected] == [f"rows.jsonl line {number}" for number in (2, 4, 5)]
    assert "lacks captions" in rejected[1][2] and "nested" in rejected[2][2]


def test_a_csv_whose_columns_cannot_be_told_apart(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text,text\na.mp4,a,b\n")
    with pytest.raises(ValueError, match=r"metadata\.csv has two columns named text"):
        read(tmp_path)


def test_a_clip_whose_row_is_refused_is_not_said_to_have_none(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4", None)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.mp4,a dog, running fast\n")
    _, (line, file), _ = read(tmp_path)
    assert line[0] == "metadata.csv line 2"
    assert file == (
        "a.mp4",
        "missing-caption",
        "metadata.csv has no row for it, or it is one of the 1 that can't be read",
    )


def test_webvid_keeps_its_captions(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text("\ufeffvideoid,page_dir,name\n1,p,a dog, running fast\n2,p,a cat\n", encoding="utf-8")
    rows, (rejected,), _ = read(f"webvid:{table}")
    assert rows == ["2.mp4"]
    assert rejected[:2] == ("results.csv line 2", "bad-row") and "it has 4 fields" in rejected[2]


def test_a_list_may_lead_outside_on_an_explicit_word(tmp_path: Path) -> None:
    clip(tmp_path / "elsewhere" / "a.mp4", None)
    (tmp_path / "list").mkdir()
    inside = tmp_path / "list" / "b.mp4"
    (tmp_path / "list" / "metadata.csv").write_text(
        f"file_name,text\n../elsewhere/a.mp4,a dog\n{inside},an absolute name of its own\n"
    )
    assert read(tmp_path / "list", allow_outside="true")[:2] == (["a.mp4", "b.mp4"], [])
    rows, (rejected,), _ = read(tmp_path / "list")
    assert rows == ["b.mp4"] and rejected[:2] == ("metadata.csv line 2", "unsafe-member")


def test_what_a_mac_adds_is_ignored_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    clip(folder / "a.mp4")
    clip(folder / "._a.mp4")
    clip(folder / "__MACOSX" / "a.mp4")
    clip(folder / ".DS_Store", None)
    rows, rejected, ignored = read(folder)
    assert rows == ["a.mp4"] and rejected == []
    assert ignored == [".DS_Store", "._a.mp4", "._a.txt", "__MACOSX"]


def tar(path: Path, **members: bytes) -> None:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def test_a_tar_of_a_mac(tmp_path: Path) -> None:
    members = {"._a.mp4": b"m", "a.mp4": b"x", "._a.txt": b"m", "a.txt": b"a dog", "__MACOSX/._a.mp4": b"m"}
    tar(tmp_path / "00000.tar", **members)
    (tmp_path / "._00000.tar").write_bytes(b"attributes")
    rows, rejected, ignored = read(f"webdataset:{tmp_path}")
    assert rows == ["a.mp4"] and rejected == []
    assert ignored == ["._00000.tar", "._a.mp4", "._a.txt", "._a.mp4"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("b.json", b'{"caption": ' + b"[" * 300_000, "it is nested more than 64 deep"),
        ("b.json", b'{"caption": 1}', "it has no caption or text"),
        ("b.json", b'{"caption": "a", "caption": "b"}', "is given twice"),
        ("b.txt", b"\xff\xfe", "it is not UTF-8 text"),
        ("b.txt", b" \n", "its caption is empty"),
        ("b.json", b'{"caption": "\\ud800"}', "which is no character"),
    ],
)
def test_a_member_of_a_tar_costs_its_sample(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    members = {"a.mp4": b"x", "a.txt": b"a", name: content, "b.mp4": b"x", "c.mp4": b"x", "c.txt": b"c"}
    tar(tmp_path / "x.tar", **members)
    rows, rejected, _ = read(f"webdataset:{tmp_path}/x.tar")
    assert rows == ["a.mp4", "c.mp4"]
    ((rejected_name, kind, why),) = rejected
    assert (rejected_name, kind) == (name, "missing-caption") and reason in why
    other = {"b.txt": b"b"} if name == "b.json" else {"b.json": b'{"text": "b"}'}
    tar(tmp_path / "x.tar", **{name: content}, **other, **{"b.mp4": b"x"})
    _, row = entries = list(parse_source(f"webdataset:{tmp_path}/x.tar", {}).entries())
    assert row.captions == ("b",) and entries[0].caption


def test_a_header_that_claims_a_terabyte_is_not_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**40
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**20))
    with pytest.raises(ValueError, match="a header claims 1,099,511,627,776 bytes"):
        read(f"webdataset:{tmp_path}/x.tar")


def test_links_that_go_round(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    clip(folder / "sub" / "a.mp4")
    (folder / "sub" / "back").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    (tmp_path / "other").mkdir()
    clip(tmp_path / "other" / "b.mp4")
    (folder / "one").symlink_to(tmp_path / "other")
    (folder / "two").symlink_to(tmp_path / "other")
    (folder / "c.mp4").symlink_to(tmp_path / "other" / "b.mp4")
    (folder / "c.txt").write_text("followed")
    rows, rejected, _ = read(folder)
    assert rows == ["c.mp4", "b.mp4", "a.mp4"]
    assert [each[:2] for each in rejected] == [("back", "unsafe-member"), ("two", "unsafe-member")]
    assert "a folder that it is in" in rejected[0][2] and "another link has led to" in rejected[1][2]


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_accents_are_matched_however_they_are_stored(tmp_path: Path, listed: str) -> None:
    stored = "NFD" if listed == "NFC" else "NFC"
    on_disk = tmp_path / unicodedata.normalize(stored, "Ärger") / unicodedata.normalize(stored, "é.mp4")
    clip(on_disk, None)
    name = unicodedata.normalize(listed, "Ärger/é.mp4")
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{name},a\n", encoding="utf-8")
    entries = list(parse_source(str(tmp_path), {}).entries())
    assert [each.file for each in entries if isinstance(each, Row)] == [str(on_disk)] and len(entries) == 1


def test_a_text_beside_a_clip_is_bounded(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4", "x" * (2**20 + 1))
    clip(tmp_path / "b.mp4")
    rows, (rejected,), _ = read(tmp_path)
    assert rows == ["b.mp4"] and "longer than 1,048,576 bytes" in rejected[2]


def test_files_are_told_apart_by_their_content(tmp_path: Path) -> None:
    content = bytearray(range(256)) * 4096  # 1 MiB
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    before = content_hash(str(path))
    assert content_hash(str(path), 0, len(content)) == before
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, (0, 0))  # older kernels give two writes within 4 ms the same time
    assert content_hash(str(path)) != before
    clip(path)
    manifests = []
    for text in (b"one", b"two", b"one"):
        path.write_bytes(text)
        manifest = list_source(tmp_path / "m.jsonl", parse_source(str(tmp_path), {}), print, measured=True, hashed=True)
        assert isinstance(manifest, Manifest)
        manifests.append(manifest.digest)
        os.utime(path, (0, len(manifests)))
    assert manifests[0] != manifests[1] and manifests[0] == manifests[2]


def test_a_video_with_bottomless_metadata(tmp_path: Path) -> None:
    write_video(tmp_path / "frames", np.zeros((2, 8, 8, 3), np.uint8), fps=8, metadata={"a": 1})
    assert read_metadata(tmp_path / "frames") == {"a": 1}
    (tmp_path / "frames" / "metadata.json").write_text("[" * 300_000)
    assert read_metadata(tmp_path / "frames") == {}


def prompts(path: Path) -> object:
    return read_prompts([], path)


def of_bytes(content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "x.yaml").write_bytes(content)
        return folder / "x.yaml"

    return write


ALIASES = b"a0: &a0 [x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("use", "make", "message"),
    [
        (prompts, lambda folder: Path("/dev/zero"), "prompts file /dev/zero: it is longer than 4,194,304 bytes"),
        (prompts, of_bytes(b"a d\xf6g"), r"x\.yaml: it is not UTF-8 text \(byte 3"),
        (load_recipe, of_bytes(b"stage: video\n" + ALIASES), r"x\.yaml .* stands for more than 100,000 values"),
        (load_recipe, of_bytes(b"[" * 300_000), r"x\.yaml .* nested more than 64 deep"),
        (load_recipe, of_bytes(b"stage: video\nstage: image\n"), r"x\.yaml .* the key 'stage' is given twice"),
        (load_recipe, lambda folder: Path("/dev/zero"), "the recipe /dev/zero: it is longer than"),
    ],
)
def test_a_file_costs_one_sentence(
    tmp_path: Path, use: Callable[[Path], object], make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        use(make(tmp_path))


def test_prompts_are_what_stands_in_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa red star\r\n\r\na\u2028blue one\rthe third".encode())
    assert read_prompts([], path) == ["a red star", "a\u2028blue one", "the third"]


def test_a_prompt_that_is_not_utf8() -> None:
    with pytest.raises(ValueError, match=r"the prompt is not UTF-8 text: a d\\udcf6g"):
        read_prompts([os.fsdecode(b"a d\xf6g")], None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk")
def test_a_full_disk_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^the disk of .*shards is full \(.* MiB free\): free some space; go on$"):  # noqa: SIM117
        with explain_full_disk(tmp_path / "shards", "go on"), open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")
    with pytest.raises(FileNotFoundError), explain_full_disk(tmp_path, "go on"):
        (tmp_path / "none").read_bytes()


def test_a_disk_that_is_full_ends_a_command_that_resumes_with_a_sentence(tmp_path: Path) -> None:
    def command(output: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"is full .* free some space; .*result keeps what is measured, and the same"):
        ends_cleanly("what is measured")(command)(output=tmp_path / "result")


def test_sigterm_ends_encoding_with_a_sentence(tmp_path: Path) -> None:
    def command(output: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it goes on")

    with pytest.raises(Terminated, match=r"stopped by SIGTERM; .*shards keeps the encoded clips"):
        ends_cleanly("the encoded clips")(command)(output=tmp_path / "shards")


def test_a_worker_whose_parent_has_ended_says_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import os, sys, threading, time
            from latentshift.data.worker_pool import WorkerLimits, WorkerPool

            def work(item):
                open(item, "w").close()
                time.sleep(0.3)

            if __name__ == "__main__":
                started = sys.argv[1]
                def watch():
                    while not os.path.exists(started):
                        time.sleep(0.01)
                    os._exit(3)
                threading.Thread(target=watch).start()
                list(WorkerPool(work, WorkerLimits(workers=1)).run([started]))
        """)
    )
    # The pipe is at its end when the worker has ended too.
    done = subprocess.run([sys.executable, script, tmp_path / "started"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_what_is_printed_is_escaped_and_cut() -> None:
    assert printable("a dög 👩‍🚀 日本") == "a dög 👩‍🚀 日本"
    assert printable("\x1b[31mred\n\u202egnp.exe\udce9\x9b") == "\\x1b[31mred\\n\\u202egnp.exe\\udce9\\x9b"
    assert printable("x" * 100_000, 10) == "xxxxxxxxxx… (99,990 more characters)"
