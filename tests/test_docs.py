"""What the documents tell a newcomer to type is what there is."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from command_words import check_understood
from latentshift.data.rejected import KINDS
from latentshift.models.storage.model_paths import bundled_model

ROOT = Path(__file__).parent.parent
MODEL_CARDS = [bundled_model() / "README.md", ROOT / "models" / "sprites-image" / "README.md"]
NOTEBOOK = ROOT / "docs" / "getting-started.ipynb"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), NOTEBOOK, *MODEL_CARDS]


def text_of(path: Path) -> str:
    """A document as Markdown; the cells of a notebook, without what they printed."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    return "\n\n".join(f"```python\n{source}\n```" if kind == "code" else source for kind, source in cells)


def blocks(language: str) -> list[tuple[str, str]]:
    """Every fenced block of a language, with the document it stands in."""
    pool = re.compile(rf"^```{language}\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
    return [(path.name, block) for path in DOCUMENTS for block in pool.findall(text_of(path))]


def commands() -> list[list[str]]:
    """Every ``latentshift …`` in a shell block or in code within a sentence, in words."""
    text = [line for _, block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    for path in DOCUMENTS:
        inline = re.findall(r"`(?:\.venv/bin/)?(latentshift [^`]+)`", text_of(path))
        text += [" ".join(each.split()) for each in inline]
    text = [re.sub(r"\[key=value …\]|[\[\]]", "", line) for line in text if line.startswith("latentshift ")]
    return [shlex.split(line, comments=True) for line in text]


def headings(path: Path) -> set[str]:
    """The anchors of a document: those that code hosts make of its headings, and its own."""
    text = text_of(path)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    named = re.findall(r'<a id="([\w-]+)">', text)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in titles} | set(named)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = text_of(path)
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_commands_are_understood() -> None:
    all_words = commands()
    assert {words[1] for words in all_words} >= {"generate", "train", "info", "init", "evaluate", "data", "bench"}
    for words in all_words:
        check_understood(words[1:])


def test_recipes_that_are_named_exist() -> None:
    for path in DOCUMENTS:
        for name in re.findall(r"(?<!training/)recipes/[\w-]+\.\w+", text_of(path)):
            assert (ROOT / name).exists(), f"{path.name} names {name}"


def test_every_recipe_is_documented() -> None:
    text = "".join(text_of(path) for path in DOCUMENTS)
    recipes = [path.name for path in (ROOT / "recipes").glob("*.yaml")]
    assert recipes and not [name for name in recipes if name not in text and f"`{Path(name).stem}`" not in text]


def test_runs_that_are_named_are_where_a_recipe_or_a_command_puts_them() -> None:
    """``runs/boats`` is the documents' example of a run of one's own."""
    recipes = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "recipes").glob("*.yaml"))
    texts = {path.name: text_of(path) for path in DOCUMENTS}
    written = set(re.findall(r"(?:output|latents): (runs/[\w-]+)", recipes)) | {"runs/boats"}
    written |= set(re.findall(r"output=(runs/[\w-]+)", "".join(texts.values())))
    named = {(name, run) for name, text in texts.items() for run in re.findall(r"\bruns/[\w-]+", text)}
    assert len(written) > 10 and not {(name, run) for name, run in named if run not in written}


def test_every_kind_of_refused_clip_has_a_row_that_says_what_to_do() -> None:
    _, _, section = (ROOT / "docs" / "your-own-videos.md").read_text(encoding="utf-8").partition("| kind |")
    rows = [line.split("|")[1] for line in section.splitlines()[2:] if line.startswith("|")]
    assert sorted(kind for cell in rows for kind in re.findall("`([a-z-]+)`", cell)) == sorted(KINDS)


def test_the_logs_topics_name_headings_that_are_there() -> None:
    head, *days = re.split(r"^## 2026-11-", (ROOT / "docs/log.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    headings = {day[:2]: re.findall(r"^- \*\*(.+?)\*\*", day, flags=re.MULTILINE) for day in days}
    named = [
        (day, words)
        for day, findings in re.findall(r"(\d\d): ((?:\"[^\"]+\"(?:, )?)+)", head)
        for words in re.findall(r"\"([^\"]+)\"", findings)
    ]
    assert len(named) > 40
    assert not [each for each in named if sum(each[1] in heading for heading in headings[each[0]]) != 1]


def test_python_examples_parse_and_their_imports_exist() -> None:
    examples = blocks("python")
    assert examples
    for _, block in examples:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_the_readmes_python_makes_its_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (program,) = (block for name, block in blocks("python") if name == "README.md" and "heart.gif" in block)
    quick = program.replace('background")', 'background", num_inference_steps=2)')  # of 100: the same call
    assert quick != program
    exec(quick, {})
    with Image.open(tmp_path / "heart.gif") as video:
        assert (video.size, video.n_frames) == ((64, 64), 16)


def test_the_readmes_install_makes_a_video_model_of_a_stock_unet() -> None:
    (program,) = (block for name, block in blocks("python") if name == "README.md" and "install(unet)" in block)
    names: dict[str, Any] = {}
    with torch.no_grad():
        exec(program, names)
        unet, x, text, video = (names[name] for name in ("unet", "x", "text", "video"))
        other = torch.cat([torch.zeros_like(x[:15]), x[15:]])
        changed = unet(other, 500, text, num_frames=16).sample
        alone = unet(x[3:4], 500, text[3:4]).sample
    stock = UNet2DConditionModel.from_pretrained(bundled_model(), subfolder="unet")
    assert unet.state_dict().keys() == stock.state_dict().keys()
    torch.testing.assert_close(changed[16:], video[16:])  # the second video knows nothing of the first
    assert (changed[15] - video[15]).abs().max() > 0.1  # a frame knows those before it
    torch.testing.assert_close(names["images"][3:4], alone, rtol=1e-4, atol=1e-4)
