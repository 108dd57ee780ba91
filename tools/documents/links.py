"""A hook of mkdocs: links to files outside docs/ become their paths.

The pages are read in the repository, too, where such links lead somewhere; on the site they would
not, and a strict build refuses them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Called by mkdocs with the text of every page."""
    root = Path(config["config_file_path"]).parent

    def as_path(match: re.Match[str]) -> str:
        text, target = match[1], (Path(page.file.abs_src_path).parent / match[2]).resolve()
        path = f"`{target.relative_to(root.resolve())}`"
        return path if text.strip("`") in path else f"{text} ({path})"

    return LINK.sub(as_path, markdown)
