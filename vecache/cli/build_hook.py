"""Add manual pages and completion scripts to the wheel, in share/ below the folder it goes to.

The build runs this, beside hatchling and without the libraries that vecache needs when it runs; the
program never imports it. SOURCE_DATE_EPOCH, or now, is the date of the pages.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_PLACES = {
    "bash": "share/bash-completion/completions/vecache",
    "zsh": "share/zsh/site-functions/_vecache",
    "fish": "share/fish/vendor_completions.d/vecache.fish",
}


class ShareHook(BuildHookInterface[Any]):
    """The hook that pyproject.toml names."""

    folder: TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files of a wheel that is no editable one, and list them."""
        if version != "standard" or self.target_name != "wheel":
            return
        sys.path.insert(0, self.root)
        from vecache.cli.completion import SCRIPTS
        from vecache.cli.man import man_pages

        seconds = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
        texts = {_PLACES[shell]: script.lstrip() for shell, script in SCRIPTS.items()}
        for name, page in man_pages(self.metadata.version, seconds):
            texts[f"share/man/man1/{name}"] = page
        self.folder = TemporaryDirectory()
        for place, text in texts.items():
            path = Path(self.folder.name, place.replace("/", "+"))
            path.write_text(text)
            build_data["shared_data"][str(path)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the files, which the wheel has now."""
        if self.folder is not None:
            self.folder.cleanup()
