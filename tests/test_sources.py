"""Sources: every layout onto the same rows, and everything that is left out named."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from latentshift.data.manifest import Entry, Manifest, RejectedRow, Row, write_manifest
from latentshift.data.rejected_list import RejectedList
from latentshift.data.sources import check_not_empty, list_source, parse_source
from latentshift.data.sources.ucf101 import class_words, load_sentences
from latentshift.training.data.source import list_rows


def read(words: object, **settings: object) -> tuple[list[Row], list[RejectedRow]]:
    entries: list[Entry] = list(parse_source(str(words), settings).entries())
    return [each for each in entries if isinstance(each, Row)], [
        each for each in entries if isinstance(each, RejectedRow)
    ]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def shown(rejected: list[RejectedRow]) -> list[tuple[str, str]]:
    return [(Path(each.name).name, each.kind) for each in rejected]


def test_a_folder_with_a_text_beside_each_file(tmp_path: Path) -> None:
    touch(tmp_path / "b.mp4", tmp_path / "a" / "deep.MOV", tmp_path / "c.png", tmp_path / "d.webm", tmp_path / ".e.mp4")
    (tmp_path / "b.txt").write_text("\ufefftwo\nlines\n", encoding="utf-8")
    (tmp_path / "a" / "deep.txt").write_text("deep down")
    (tmp_path / "d.txt").write_text(" \n")
    (tmp_path / "e.txt").write_text("of a video of a kind that is not known")
    touch(tmp_path / "e.xyz")
    rows, rejected = read(tmp_path)
    assert [(Path(row.file).name, row.captions) for row in rows] == [
        ("deep.MOV", ("deep down",)),
        ("b.mp4", ("two lines",)),
    ]
    assert shown(rejected) == [("c.png", "missing-caption"), ("d.webm", "missing-caption"), ("e.txt", "no-video")]


def test_one_file_with_its_caption(tmp_path: Path) -> None:
    one = tmp_path / "one.mp4"
    with pytest.raises(ValueError, match=r"there is no file .*one.mp4"):
        parse_source(str(one), {})
    touch(one)
    assert shown(read(one)[1]) == [("one.mp4", "missing-caption")]
    with pytest.raises(ValueError, match=r"one.mp4 needs a caption: there is no one.txt beside it; .* caption="):
        check_not_empty(parse_source(str(one), {}))
    assert read(one, caption=" a  dog ", start=2)[0] == [Row(str(one), ("a dog",), "file", start=2)]
    (tmp_path / "one.txt").write_text("a cat\n")
    assert [row.captions for row in read(one)[0]] == [("a cat",)]
    assert [row.captions for row in read(one, caption="a dog")[0]] == [("a dog",)]
    for options, message in (({"start": -1}, "start"), ({"caption": 3}, "caption"), ({"captoin": "x"}, "captoin")):
        with pytest.raises(ValueError, match=message):
            parse_source(str(one), options)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_folder_with_a_list(tmp_path: Path, kind: str) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "sub" / "b.mp4", tmp_path / "forgotten.mp4", tmp_path / "c.mp4")
    listed: list[dict[str, object]] = [
        {"file_name": "a.mp4", "text": 'says "hello", twice', "start": 1.5, "end": ""},
        {"file_name": "sub/b.mp4", "text": "b", "start": "", "end": 3, "split": "train"},
        {"file_name": "c.mp4", "text": ""},
        {"file_name": "", "text": "nothing"},
        {"file_name": "late.mp4", "text": "late", "start": "soon"},
    ]
    if kind == "csv":
        with (tmp_path / "metadata.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["file_name", "text", "start", "end", "split"])
            writer.writeheader()
            writer.writerows(listed)
    else:
        listed[1]["text"] = ["b", "another b"]
        (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(each) for each in listed) + "\n\n")
    rows, rejected = read(tmp_path)
    assert [(row.start, row.end, row.split) for row in rows] == [(1.5, None, ""), (None, 3.0, "train")]
    assert rows[0].captions == ('says "hello", twice',)
    assert rows[1].captions == (("b",) if kind == "csv" else ("b", "another b"))
    assert [each.kind for each in rejected] == ["missing-caption", "bad-row", "bad-row", "missing-caption"]
    assert Path(rejected[-1].name).name == "forgotten.mp4"


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    touch(tmp_path / name, tmp_path / "b.mp4")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("a cup")
    rejected = RejectedList(tmp_path / "left-out.jsonl")
    (row,) = list_source(tmp_path / "m.jsonl", parse_source(str(tmp_path), {}), rejected.add)
    assert Path(row.file) == tmp_path / name and row.name.endswith("caf\\udce9.mp4")
    assert [Path(each.name).name for each in rejected] == ["b.mp4"]


def test_rows_of_one_split(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "c.mp4")
    (tmp_path / "metadata.csv").write_text("file_name,text,split\na.mp4,a,train\nb.mp4,b,test\nc.mp4,,train\n")
    for split, captions in (("", ["a", "b"]), ("train", ["a"]), ("test", ["b"])):
        rows, rejected = read(tmp_path, split=split)
        assert [row.captions[0] for row in rows] == captions and shown(rejected) == [("c.mp4", "missing-caption")]


def test_a_folder_with_two_texts_line_by_line(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "b.mp4")
    (tmp_path / "videos.txt").write_text("a.mp4\nb.mp4\n")
    (tmp_path / "prompt.txt").write_text("one\n\n")
    rows, rejected = read(tmp_path)
    assert [row.captions for row in rows] == [("one",)] and shown(rejected) == [("b.mp4", "missing-caption")]
    (tmp_path / "prompt.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(ValueError, match=r"has 2 lines and prompt\.txt has 3"):
        read(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,text\n")
    with pytest.raises(ValueError, match=r"holds metadata\.csv and videos\.txt"):
        read(tmp_path)


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    for content, message in (
        (b"file,caption\n", "no column file_name and no column text"),
        (b"\xff\xfe", "is not UTF-8"),
    ):
        (tmp_path / "metadata.csv").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a", "text": "a"}\n{')
    rows, (rejected,) = read(tmp_path)
    assert len(rows) == 1 and rejected.name.endswith("metadata.jsonl line 2") and "it is no JSON" in rejected.reason
    with pytest.raises(ValueError, match="say what it is: folder:PATH, manifest:PATH, file:PATH, webvid:PATH"):
        read(tmp_path / "nothing")


def test_webvid(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text(
        "videoid,contentUrl,duration,page_dir,name\n"
        '21179416,https://x/1.mp4,PT00H00M11S,006001_006050,"Aerial shot, winter forest"\n'
        "2,https://x/2.mp4,PT00H00M11S,../../etc,Out\n"
        "3,https://x/3.mp4,PT00H00M11S,a_b,\n"
    )
    rows, rejected = read(f"webvid:{table}", root=tmp_path)
    assert rows == [
        Row(f"{tmp_path}/006001_006050/21179416.mp4", ("Aerial shot, winter forest",), "webvid"),
    ]
    assert [each.kind for each in rejected] == ["unsafe-member", "missing-caption"]
    with pytest.raises(ValueError, match="there is no folder"):
        read(f"webvid:{table}", root=tmp_path / "none")


def test_ucf101(tmp_path: Path) -> None:
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (tmp_path / "UCF-101").mkdir()
    (lists / "trainlist01.txt").write_text("YoYo/v_YoYo_g08_c01.avi 101\r\nTaiChi/v_TaiChi_g08_c01.avi 90\n")
    (lists / "testlist01.txt").write_text("YoYo/v_YoYo_g01_c01.avi\n")
    place = f"ucf101:{tmp_path}/UCF-101"
    rows, rejected = read(place)
    assert not rejected
    assert [(row.split, row.captions[0]) for row in rows] == [
        ("train", "a person is playing with a yo-yo"),
        ("train", "a person is doing tai chi"),
        ("test", "a person is playing with a yo-yo"),
    ]
    assert [row.captions[0] for row in read(place, captions="class", split="train")[0]] == ["yo yo", "tai chi"]
    own = tmp_path / "own.yaml"
    own.write_text("YoYo: someone plays\n")
    rows, rejected = read(place, sentences=own)
    assert [row.captions[0] for row in rows] == ["someone plays"] * 2
    assert shown(rejected) == [("v_TaiChi_g08_c01.avi", "missing-caption")]
    touch(tmp_path / "UCF-101" / "YoYo" / "v_YoYo_g09_c01.avi", tmp_path / "UCF-101" / "YoYo" / "v_YoYo_g08_c01.avi")
    assert shown(read(place, split="test")[1]) == [("v_YoYo_g09_c01.avi", "bad-row")]  # no list names it
    with pytest.raises(ValueError, match="folds 1, 2 and 3"):
        read(place, fold=4)


def test_every_class_of_ucf101_has_a_sentence_of_its_own() -> None:
    sentence_of = load_sentences()
    assert len(sentence_of) == len(set(sentence_of.values())) == 101
    assert (
        class_words("ApplyEyeMakeup") == "apply eye makeup" and class_words("HandstandPushups") == "handstand pushups"
    )


def test_msrvtt(tmp_path: Path) -> None:
    annotations = tmp_path / "videodatainfo.json"
    content = {
        "videos": [
            {"video_id": "video0", "split": "train"},
            {"video_id": "video7010", "split": "test"},
            {"video_id": "video7011", "split": "test"},
            {"video_id": "../out", "split": "test"},
        ],
        "sentences": [
            {"video_id": "video7010", "caption": "a man  sings", "sen_id": 1},
            {"video_id": "video7010", "caption": "singing", "sen_id": 2},
            {"video_id": "video7011", "caption": " ", "sen_id": 3},
            {"video_id": "video9", "caption": "who", "sen_id": 4},
            {"video_id": "video0", "caption": "train", "sen_id": 5},
        ],
    }
    annotations.write_text(json.dumps(content))
    rows, rejected = read(f"msrvtt:{annotations}", split="test")
    assert [(Path(row.file).name, row.captions) for row in rows] == [("video7010.mp4", ("a man sings", "singing"))]
    assert [each.kind for each in rejected] == ["missing-caption", "bad-row", "missing-caption", "unsafe-member"]
    assert "sentence 3" in rejected[0].name
    with pytest.raises(ValueError, match="has the splits train, val, test"):
        read(f"msrvtt:{annotations}", split="dev")
    annotations.write_text("[]")
    with pytest.raises(ValueError, match="must hold the lists videos and sentences"):
        read(f"msrvtt:{annotations}")


def _member(name: str, content: bytes = b"x", **settings: object) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in settings.items():
        setattr(info, key, value)
    return info, io.BytesIO(content)


def test_shards_are_read_where_they_lie(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "000.tar", "w") as tar:
        for info, content in (
            _member("a/0001.mp4", b"video one"),
            _member("a/0001.txt", b"one"),
            _member("0002.json", json.dumps({"caption": "two"}).encode()),
            _member("0002.webm", b"video two"),
            _member("0003.mp4"),
            _member("0004.txt", b"alone"),
            _member("/abs.mp4"),
            _member("../up.mp4"),
            _member("link.mp4", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            _member("0005.json", b"{"),
            _member("0005.mp4"),
        ):
            tar.addfile(info, content)
    rows, rejected = read(f"webdataset:{tmp_path}")
    assert [row.captions for row in rows] == [("one",), ("two",)]
    whole = (tmp_path / "000.tar").read_bytes()
    assert [whole[row.offset : row.offset + row.size] for row in rows] == [b"video one", b"video two"]
    assert shown(rejected) == [
        ("0003", "missing-caption"),
        ("abs.mp4", "unsafe-member"),
        ("up.mp4", "unsafe-member"),
        ("link.mp4", "unsafe-member"),
        ("0004", "no-video"),
        ("0005.json", "missing-caption"),
    ]
    (tmp_path / "000.tar").write_bytes(whole[:2000])
    rows, rejected = read(f"webdataset:{tmp_path}")
    assert [row.captions for row in rows] == [("one",)] and "damaged" in [each.kind for each in rejected]
    torn = bytearray(whole)
    torn[whole.find(b"0002.webm") + 150] ^= 1  # in a header: to the library this looks like the end
    for cut in (bytes(torn), whole[: whole.find(b"0002.webm") + 100], whole[: whole.find(b"0002.webm")]):
        (tmp_path / "000.tar").write_bytes(cut)
        assert ("000.tar", "damaged") in shown(read(f"webdataset:{tmp_path}")[1])
    with tarfile.open(tmp_path / "001.tar", "w:gz") as tar:
        tar.addfile(*_member("a.mp4"))
    with pytest.raises(ValueError, match=r"001\.tar: it is no plain tar"):
        read(f"webdataset:{tmp_path / '001.tar'}")


def test_a_shard_that_cannot_be_read_costs_one_entry(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        for info, content in (_member("a.mp4"), _member("a.txt", b"one")):
            tar.addfile(info, content)
    with tarfile.open(tmp_path / "gz.tar", "w:gz") as tar:
        tar.addfile(*_member("b.mp4"))
    (tmp_path / "not.tar").write_text("no tar at all")
    (tmp_path / "empty.tar").touch()
    (tmp_path / "dir.tar").mkdir()
    rows, rejected = read(f"webdataset:{tmp_path}")
    assert [row.captions for row in rows] == [("one",)]
    assert shown(rejected) == [(f"{name}.tar", "damaged") for name in ("dir", "empty", "gz", "not")]
    assert "unpack a compressed one with gunzip" in rejected[2].reason
    (tmp_path / "00000.tar").unlink()
    with pytest.raises(ValueError, match=r"cannot read .*dir\.tar: it is no file \(nor can the 3 others"):
        read(f"webdataset:{tmp_path}")


def test_a_manifest_is_what_was_written(tmp_path: Path) -> None:
    rows = [
        Row("/clips/a.mp4", ("é", "b"), "folder", start=1.5, end=4),
        Row("/shards/0.tar", ("c",), "shards", split="val", offset=512, size=9, member="x.mp4"),
    ]
    rejected = RejectedRow("z", "damaged", "it is broken")
    named: list[RejectedRow] = []
    assert write_manifest(tmp_path / "m.jsonl", iter([rows[0], rejected, rows[1]]), named.append) == 2
    assert named == [rejected]
    listed = RejectedList(tmp_path / "left-out.jsonl")
    for each in (rejected, RejectedRow("y", "bad-row", "it has no words", caption=True)):
        listed.add(each)
    again = RejectedList(listed.path)
    assert list(again) == list(listed) and again.by_kind == {"damaged": 1, "bad-row": 1}
    assert (len(again), again.captions, again.first(1)) == (2, 1, [rejected])
    manifest = Manifest(tmp_path / "m.jsonl")
    assert list(manifest) == [manifest[0], manifest[1]] == rows
    assert read(tmp_path / "m.jsonl") == (rows, [])
    (tmp_path / "m.jsonl").write_text((tmp_path / "m.jsonl").read_text().rstrip("\n"))
    assert len(Manifest(tmp_path / "m.jsonl")) == 2
    with pytest.raises(IndexError, match="so there is no clip 2"):
        manifest[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is no JSON"),
        ("[]", "must hold an object"),
        ('{"file": "a"}', "lacks captions, source"),
        ('{"file": "a", "captions": ["b"], "source": "c", "lenght": 1}', "knows no lenght"),
        ('{"file": "a", "captions": [], "source": "c"}', "one sentence or more"),
        ('{"file": "a", "captions": ["b"], "source": "c", "start": "1"}', "start can't be '1'"),
        ('{"file": "a", "captions": ["b"], "source": "c", "start": -1}', "start can't be -1"),
        ('{"file": "a", "captions": ["b"], "source": "c", "end": NaN}', "end can't be nan"),
    ],
)
def test_a_manifest_that_does_not_hold(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "m.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        Manifest(tmp_path / "m.jsonl")[0]


def test_a_list_that_a_full_disk_cut_does_not_stop_the_next_run(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "left-out.jsonl").write_text('{"name": "gone.mp4", "ki')
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "clips" / name).write_bytes(b"not looked into")
    (tmp_path / "clips" / "a.txt").write_text("a red star")
    manifest, rejected = list_rows(tmp_path / "run", parse_source(str(tmp_path / "clips"), {}), write=True)
    assert len(manifest) == 1 and [Path(each.name).name for each in rejected] == ["b.mp4"]
