"""Lay out what `vecache doctor` found and did: one line where all is well, and each broken rule."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from vecache.report.terminal import count, human_bytes
from vecache.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vecache.doctor.check import Diagnosis
    from vecache.doctor.mend import Action
    from vecache.doctor.rules import Finding
    from vecache.report.terminal import Screen

__all__ = ["doctor_document", "doctor_table", "doctor_text"]

_MOST_SHOWN = 8


def doctor_document(result: Diagnosis, actions: Sequence[Action]) -> dict[str, Any]:
    """Return the JSON document."""
    return {
        "schema": "vecache.doctor/1",
        "store": str(result.store.path),
        "n_layers": result.n_layers,
        "n_tocs": result.n_tocs,
        "n_caches": result.n_caches,
        "n_images": result.n_images,
        "n_files": result.n_files,
        "file_bytes": result.n_file_bytes,
        "n_wrong": len(result.wrong),
        "n_hints": len(result.hints),
        "findings": [_finding_document(finding) for finding in result.findings],
        "actions": [
            {
                "remedy": str(action.remedy),
                "rule": int(action.rule),
                "layer": action.layer,
                "path": action.path,
                "is_done": action.is_done,
                "error": action.error,
            }
            for action in actions
        ],
    }


def _finding_document(finding: Finding) -> dict[str, Any]:
    return {
        "rule": int(finding.rule),
        "name": finding.rule.name.lower(),
        "severity": "hint" if finding.rule.is_hint else "wrong",
        "layer": finding.layer,
        "image_id": finding.image,
        "path": finding.path,
        "found": finding.found,
        "wanted": finding.rule.wanted,
        "advice": finding.advice,
        "remedy": finding.remedy and str(finding.remedy),
    }


def doctor_table(result: Diagnosis) -> Any:
    """Return one row for each finding."""
    import pyarrow as pa  # noqa: PLC0415 - only `-o` and `--jsonl` need it

    texts = (
        "name",
        "severity",
        "layer_id",
        "image_id",
        "path",
        "found",
        "wanted",
        "advice",
        "remedy",
    )
    rows = []
    for finding in result.findings:  # names of files need not be UTF-8, text in Arrow must
        document = {**_finding_document(finding), "layer_id": finding.layer}
        rows.append({key: _as_utf8(value) for key, value in document.items()})
    schema = pa.schema({"rule": pa.int64(), **{name: pa.string() for name in texts}})
    return pa.Table.from_pylist(rows, schema)


def _as_utf8(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode(errors="surrogatepass").decode(errors="replace")


def doctor_text(
    result: Diagnosis, actions: Sequence[Action], screen: Screen, *, show_hints: bool
) -> str:
    """Return the lines for people."""
    shown = result.findings if show_hints else result.wrong
    blocks = ["\n".join(_action_line(action, screen) for action in actions)] if actions else []
    blocks += [_verdict(result, screen, show_hints=show_hints)]
    for _, findings in groupby(shown, key=lambda finding: (finding.rule, finding.advice)):
        blocks.append("\n".join(_block(list(findings), screen)))
    return "\n\n".join(blocks)


def _verdict(result: Diagnosis, screen: Screen, *, show_hints: bool) -> str:
    verdict = (
        screen.paint(f"{count(len(result.wrong), 'thing')} wrong", "red")
        if result.wrong
        else screen.paint("sound", "green")
    )
    hints = ""
    if result.hints:
        hints = f"; {count(len(result.hints), 'hint')}{'' if show_hints else ' (--hints)'}"
    files = ""
    if result.n_files is not None:
        files = f", {count(result.n_files, 'file')} of {human_bytes(result.n_file_bytes)}"
    return (
        f"{printable(result.store.title)}: {verdict} ({count(result.n_layers, 'layer')}, "
        f"{count(result.n_caches, 'cache file')}, {count(result.n_tocs, 'TOC')}, "
        f"{count(result.n_images, 'image')}{files}){hints}"
    )


def _block(findings: Sequence[Finding], screen: Screen) -> Iterator[str]:
    """Return the lines about one rule."""
    rule = findings[0].rule
    title = f"{'Hint' if rule.is_hint else 'Rule'} {rule}"
    yield f"{screen.paint(title, 'yellow' if rule.is_hint else 'red')}  {rule.wanted}"
    for finding in findings[:_MOST_SHOWN]:
        owner = finding.layer or finding.image
        name = f"{owner[:12]}  " if owner else ""
        path = f"{finding.path}: " if finding.path and not owner else ""
        yield printable(f"  {name}{path}{finding.found}")
    if len(findings) > _MOST_SHOWN:
        yield f"  and {len(findings) - _MOST_SHOWN:,} more; --json lists all"
    yield screen.paint(f"  To do: {findings[0].advice}", "dim")


def _action_line(action: Action, screen: Screen) -> str:
    state = "done" if action.is_done else "to do" if action.error is None else "failed"
    style = {"done": "green", "failed": "red"}.get(state, "yellow")
    what = action.path
    if action.layer is not None and action.remedy != "remove":
        what = f"cache file of layer {action.layer[:12]}"
    reason = "" if action.error is None else f": {action.error}"
    return f"{screen.paint(f'{state:<6}', style)}  {action.remedy:<6}  {printable(what + reason)}"
