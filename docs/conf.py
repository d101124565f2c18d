"""Configuration of the documentation site: `sphinx-build -W docs docs/_build/html`."""

import os
import tomllib
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parent.parent

import sphinx.util.logging  # noqa: E402

import keras_addons_l6  # noqa: E402  the backend must be chosen first

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "keras_addons_l6"
author = "the keras_addons_l6 authors"
release = version = keras_addons_l6.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "gallery/**/*.py",
    "gallery/**/*.ipynb",
    "gallery/**/*.py.md5",
    "gallery/sg_execution_times.rst",
]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Call arguments", "params_style")]
nitpicky = False
suppress_warnings = ["config.cache"]  # sphinx-gallery keeps functions in its configuration

html_theme = "furo"
html_title = "keras_addons_l6"
html_static_path: list[str] = []

# The gallery's scripts take minutes: `GALLERY=1` runs them, without it their text alone is shown.
sphinx_gallery_conf = {
    "examples_dirs": [str(ROOT / "examples")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "plot_gallery": "True" if os.environ.get("GALLERY") else "False",
    "download_all_examples": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "show_memory": False,
}


def check_every_public_name_is_documented(app, environment):
    """Warn, which fails the build under -W, for each public name that no page documents."""
    documented = {name.rpartition(".")[2] for name in environment.get_domain("py").objects}
    for name in keras_addons_l6.__all__:
        if name not in documented:
            sphinx.util.logging.getLogger(__name__).warning(
                "public name %s is not documented; add it to docs/api.rst", name
            )


def setup(app):
    """Register the check."""
    app.connect("env-check-consistency", check_every_public_name_is_documented)
