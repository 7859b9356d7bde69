"""Notebooks run from top to bottom, and what they keep as output is what they give.

People read them on the web page of the repository, so outputs are committed: no errors, no noise,
no path of the machine that ran them, and not too large to be shown.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 750_000  # pictures have two dots a pixel

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # it has no types


def outputs(notebook: Any) -> list[list[Any]]:
    """Outputs of each code cell."""
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def words(notebook: Any) -> list[str]:
    """Return the printed lines: what does not change with the version of pandas."""
    return [
        output.text
        for cell_outputs in outputs(notebook)
        for output in cell_outputs
        if output.output_type == "stream"
    ]


def test_there_are_six() -> None:
    assert [path.stem[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_", "04_", "05_", "06_"]


@each_notebook
def test_it_runs_and_says_the_same_again(path: Path) -> None:
    kept, again = read(path), read(path)
    client = NotebookClient(
        again, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()
    assert words(again) == words(kept)
    assert not [text for text in words(again) if "Warning" in text]


@each_notebook
def test_what_it_keeps_can_be_read_anywhere(path: Path) -> None:
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kept = [output for cell_outputs in outputs(notebook) for output in cell_outputs]
    assert kept
    assert {output.output_type for output in kept} <= {"stream", "display_data", "execute_result"}
    assert all(output.name == "stdout" for output in kept if output.output_type == "stream")
    texts = [
        text
        for output in kept
        for form, text in (output.get("data") or {"text/plain": output.get("text")}).items()
        if form.startswith("text/")
    ]
    paths = re.compile(r"(?<![\w.>/])/(?:home|root|tmp|work|Users|usr/lib/python|opt|builds)\b")
    assert not [text for text in texts if paths.search(text)]
    assert path.stat().st_size < MOST_BYTES


@each_notebook
def test_it_uses_what_is_promised_alone(path: Path) -> None:
    source = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    assert "import vecache\n" in source
    assert "from vecache" not in source
    assert "import vecache." not in source
    assert not re.search(r"^\s*(def|class) ", source, re.MULTILINE)
    assert "Markdown(" not in source  # sentences are in Markdown cells, figures in outputs
    promised = __import__("vecache").__all__
    assert set(re.findall(r"vecache\.(\w+)", source)) <= set(promised)


def test_there_are_pictures() -> None:
    pictures = [
        output
        for path in NOTEBOOKS
        for cell_outputs in outputs(read(path))
        for output in cell_outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 5
