"""Print the JSON Schema of the document that a verb prints with --json.

Each document names its own in `schema`: a name and a version, as in vecache.plan/1. Keys may be
added to it; the version rises when one goes or changes its meaning. The documents of `plan --curve`
and `plan --explain` are plan-curve and plan-explain. Without a VERB the names are listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecache.cli.options import UsageError
from vecache.report.output import json_text

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    parser.add_argument("verb", metavar="VERB", nargs="*", help="such as plan, or fleet plan")


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.report.schema import SCHEMAS

    if not args.verb:
        print("\n".join(SCHEMAS))
        return 0
    name = "-".join(args.verb)
    schema = SCHEMAS.get("plan" if name == "demo" else name)
    if schema is None:
        raise UsageError(f"{' '.join(args.verb)}: prints no JSON; these do: {', '.join(SCHEMAS)}")
    print(json_text(schema, indent=2))
    return 0
