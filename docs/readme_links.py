"""Makes README's relative links and images absolute in the metadata of a built archive, where a package index shows it.

Hatchling calls `ReadmeLinks` at each build. `[tool.hatch.metadata.hooks.custom]` in pyproject.toml says where the files are to
be seen: `links` for pages, `images` for files as they are. While these are empty, README stays as it is.
"""

import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


def absolute(text, links, images):
    """README with `links` in front of what [text](path) and `images` in front of what ![text](path) point to."""
    return re.sub(
        r"(!?)(\[[^\]]*\]\()(?![a-z]+:|#)([^)\s]+\))",
        lambda m: m[1] + m[2] + (images if m[1] else links) + m[3],
        text,
    )


class ReadmeLinks(MetadataHookInterface):
    """The field `readme` of the metadata."""

    def update(self, metadata):
        """Set it."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        links, images = (self.config.get(name, "") for name in ("links", "images"))
        if links and images:
            version = metadata.get("version", "")
            text = absolute(text, links.format(version=version), images.format(version=version))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
