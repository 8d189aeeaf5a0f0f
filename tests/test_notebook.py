"""The notebook runs from top to bottom, and its videos are what its text says."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parent.parent / "docs" / "getting-started.ipynb"


@pytest.mark.slow  # it samples, trains and evaluates
def test_the_notebook_runs_from_top_to_bottom() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute()  # raises where a cell does
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    shifted = [[int(each) for each in re.findall(r"\d", row)] for row in printed.splitlines() if row.count(",") >= 5]
    assert [row[:2] for row in shifted[:4]] == [[0, 0], [1, 1], [2, 2], [3, 3]]  # a third from the frame before
    assert [row[4:6] for row in shifted[:4]] == [[2, 2], [3, 3], [4, 4], [0, 0]]  # and a third from the one after
    assert shifted[4][:2] == [1, 1] and shifted[7][4:6] == [4, 4]  # replicate
    gifs = [output for output in outputs if "image/gif" in output.get("data", {})]
    assert len(gifs) == 3


def test_what_the_notebook_shows_is_what_its_code_printed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))  # run once, in order
    assert not [output for cell in codes for output in cell.outputs if output.output_type == "error"]
