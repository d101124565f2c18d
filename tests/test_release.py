"""README's links in a built archive, and what a publisher fills in."""

import importlib.util
import re
import sys
import tomllib
import types
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
HOOK = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"][
    "custom"
]
PLACES = {"links": "https://host/blob/v{version}/", "images": "https://host/raw/v{version}/"}


class Interface:
    """As much of hatchling's base class as the hook uses; hatchling itself is there only when archives are built."""

    def __init__(self, root, config):
        self.root, self.config = root, config


@pytest.fixture
def built_readme(monkeypatch):
    """A function from the hook's configuration to the README that the archive's metadata would hold."""
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    interface = types.ModuleType("hatchling.metadata.plugin.interface")
    interface.MetadataHookInterface = Interface
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("readme_links", REPOSITORY / HOOK["path"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def build(**places):
        metadata = {"version": "1.2.3"}
        module.ReadmeLinks(str(REPOSITORY), places).update(metadata)
        assert metadata["readme"]["content-type"] == "text/markdown"
        return metadata["readme"]["text"]

    return build


def test_links_stay_where_nobody_has_said_where_the_files_are(built_readme):
    assert built_readme(links="", images="") == README
    assert built_readme(links=PLACES["links"]) == README


def test_relative_links_and_images_become_absolute_and_nothing_else_changes(built_readme):
    text = built_readme(**PLACES)
    assert "![Training curves" in text
    assert "](https://host/raw/v1.2.3/docs/quickstart.png)" in text
    assert "[layers](https://host/blob/v1.2.3/docs/layers.md)" in text
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) > 20
    assert all(target.startswith("https://") for target in targets)
    back = text.replace("https://host/blob/v1.2.3/", "").replace("https://host/raw/v1.2.3/", "")
    assert back == README


def test_the_places_are_empty_in_the_repository():
    """A copy of it doesn't know where it will lie; CONTRIBUTING says who fills them in."""
    assert {name: HOOK[name] for name in PLACES} == dict.fromkeys(PLACES, "")
    assert "[project.urls]" in (REPOSITORY / "pyproject.toml").read_text()
    assert "[project.urls]" in (REPOSITORY / "docs/CONTRIBUTING.md").read_text()
