"""What the site does to the pages: links out of ``docs/`` lead nowhere there, and become names."""

from __future__ import annotations

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)[^)]*\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """A page without links to files of the checkout that the site does not have."""
    depth = page.file.src_uri.count("/")

    def named(link: re.Match[str]) -> str:
        outward = link[0].split("](")[1].count("../") > depth
        return f"{link[1]} (`{link[2]}` in the checkout)" if outward else link[0]

    return _OUTWARD.sub(named, markdown)
