"""Plan a pull on the small sample that ships inside the package.

The sample is a store that Podman wrote: five layers of made-up files. Two of them count as present,
and an image of three others is pulled. Reflinks are off, as on ext4.
"""

from __future__ import annotations

import argparse
from importlib.resources import as_file, files

from vecache.cli.options import add_output

_IMAGE = "containers-storage:app2"
_PRESENT = ("dd95d764c505", "3492096ae743")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the verb understands."""
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Do it, print it, and return the exit code."""
    from vecache.cli import plan

    parser = argparse.ArgumentParser()
    plan.add_arguments(parser)
    with as_file(files("vecache") / "sample" / "store") as store:
        words = [_IMAGE, "--store", str(store), "--reflink", "no", "--no-hard-links"]
        words += ["--layout", "dir", "--present", *_PRESENT]
        wanted = parser.parse_args(words)
        for name in ("json", "jsonl", "output"):
            setattr(wanted, name, getattr(args, name))
        code = plan.run(wanted)
    if not (args.json or args.jsonl or args.output):
        print("\nNow yours: vecache plan docker://HOST/NAME, or vecache --help")
    return code
