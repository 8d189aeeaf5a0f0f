"""What of the ComfyUI node pack can be checked without ComfyUI: names in people's workflows, and the examples."""

from __future__ import annotations

import ast
import importlib.util
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from latentshift.diffusion.noise import paper_scheduler

PACK = Path(__file__).parent.parent / "comfyui"
EXAMPLES = sorted((PACK / "api_workflows").glob("*.json"))

# Workflows name nodes and inputs by these: add to them, never change or remove any.
NODES = {
    "LatentshiftApplyTemporalShift": ["model", "fold", "padding", "direction", "noise_share", "place", "blocks"],
    "LatentshiftEmptyVideoLatents": ["width", "height", "frames"],
    "LatentshiftLoadAdapter": ["model", "file", "strength"],
    "LatentshiftLoadModel": ["folder"],
}
OPTIONAL = {"place", "blocks"}
OF_COMFYUI = {
    "CLIPTextEncode",
    "ContextWindowsManual",
    "KSampler",
    "SaveAnimatedWEBP",
    "VAEDecode",
}


def called(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def test_ids_of_nodes_and_inputs_stay() -> None:
    tree = ast.parse((PACK / "nodes.py").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for schema in (node for node in ast.walk(tree) if called(node) == "io.Schema"):
        assert isinstance(schema, ast.Call)
        words: dict[str | None, Any] = {word.arg: word.value for word in schema.keywords}
        found[words["node_id"].value] = [each.args[0].value for each in words["inputs"].elts]
    assert found == NODES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_has_nodes_and_links_that_exist(path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    for node in workflow.values():
        kind = node["class_type"]
        assert kind in NODES or kind in OF_COMFYUI
        if kind in NODES:
            assert [name for name in node["inputs"] if name not in OPTIONAL] == [
                name for name in NODES[kind] if name not in OPTIONAL
            ]
        for value in node["inputs"].values():
            assert not isinstance(value, list) or value[0] in workflow


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_on_the_page_is_the_same(path: Path) -> None:
    """The page's own format: nodes by number, and links between their inputs and outputs."""
    workflow = json.loads(path.read_text(encoding="utf-8"))
    page = json.loads((PACK / "example_workflows" / path.name).read_text(encoding="utf-8"))
    assert {str(node["id"]): node["type"] for node in page["nodes"]} == {
        number: node["class_type"] for number, node in workflow.items()
    }
    links = {link[0]: [str(link[1]), link[2]] for link in page["links"]}
    for node in page["nodes"]:
        inputs = workflow[str(node["id"])]["inputs"]
        linked = {each["name"]: links[each["link"]] for each in node["inputs"] if each["link"] is not None}
        assert linked == {name: value for name, value in inputs.items() if isinstance(value, list)}
        set_here = [value for value in inputs.values() if not isinstance(value, list)]
        # The page keeps what becomes of a seed after a run beside the seed.
        kept = [value for value in node.get("widgets_values", []) if value not in ("randomize", "fixed")]
        assert kept[: len(set_here)] == set_here


def module(name: str) -> Any:
    """A file of the pack that does not import ComfyUI when it is loaded."""
    spec = importlib.util.spec_from_file_location(f"pack_{name}", PACK / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_a_sampler_that_looks_into_the_prediction_is_refused_with_shared_noise() -> None:
    """And a node's function is not, which was there before the sampler began."""
    check_sampler = module("noise_patch").check_sampler
    options = {"latentshift": (1, "euler_pp"), "sampler_post_cfg_function": [print]}
    check_sampler(options)
    check_sampler({})
    options["sampler_post_cfg_function"] = [print, print]
    with pytest.raises(ValueError, match="the sampler euler_pp can't be used with noise that frames share"):
        check_sampler(options)


def test_a_schedule_of_betas_is_refused() -> None:
    scheduler = paper_scheduler()
    module("schedule").check_schedule(scheduler.config)
    with pytest.raises(ValueError, match="trained_betas"):
        module("schedule").check_schedule({**scheduler.config, "trained_betas": scheduler.betas.tolist()})


def test_its_description_is_what_the_registry_reads() -> None:
    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "latentshift"
    assert project["tool"]["comfy"].keys() == {"PublisherId", "DisplayName", "requires-comfyui"}
    package = tomllib.loads((PACK.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for field in ("license", "requires-python"):
        assert project["project"][field] == package[field]


def test_the_package_knows_nothing_of_comfyui() -> None:
    for file in (PACK.parent / "src").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0].startswith("comfy") for name in names), file
