"""Plan a pull on the small sample in the package.

The sample is a store that Podman wrote: five layers of generated files. Two of them count as
present; the image that is planned has the other three. Reflinks are off, as on ext4.
"""

from __future__ import annotations

import argparse
from importlib.resources import as_file, files

from vecache.cli.options import add_output

_IMAGE = "containers-storage:app2"
_PRESENT = ("dd95d764c505", "3492096ae743")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to its parser."""
    add_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb, print its result, and return the exit code."""
    from vecache.cli import plan

    parser = argparse.ArgumentParser()
    plan.add_arguments(parser)
    with as_file(files("vecache") / "sample" / "store") as store:
        words = [_IMAGE, "--store", str(store), "--reflink", "no", "--no-hard-links"]
        words += ["--layout", "dir", "--parallel", "6", "--present", *_PRESENT]
        wanted = parser.parse_args(words)
        for name in ("json", "jsonl", "output"):
            setattr(wanted, name, getattr(args, name))
        code = plan.run(wanted)
    if not (args.json or args.jsonl or args.output):
        print("\nNext: vecache plan docker://HOST/NAME, or vecache --help")
    return code
