"""Configuration of the documentation site: `sphinx-build -W docs docs/_build/html`."""

import inspect
import os
import re
import shutil
import tomllib
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).parent.parent

import keras  # noqa: E402  the backend must be chosen first
import sphinx.util.inspect  # noqa: E402
import sphinx.util.logging  # noqa: E402
from docutils import nodes  # noqa: E402
from sphinx import addnodes  # noqa: E402
from sphinx.domains.python import PyObject  # noqa: E402

import keras_addons_l6  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = "keras_addons_l6"
author = "the keras_addons_l6 authors"
release = version = keras_addons_l6.__version__
# What the theme prints at the foot of every page, after "Copyright ©".
copyright = f"{author}. Version {release}. License: {PROJECT['license']}."

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
    "**/sg_execution_times.rst",
    "sg_execution_times.rst",
]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"  # none that are a bare type
autodoc_member_order = "bysource"
default_role = "py:obj"  # one backtick in a docstring is code, with a link where it names something of ours
maximum_signature_line_length = 70  # a longer signature has a line for each argument
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes as a list, like arguments
napoleon_custom_sections = [("Call arguments", "params_style")]
nitpicky = False
suppress_warnings = ["config.cache"]  # sphinx-gallery keeps functions in its configuration

html_theme = "furo"
html_title = "keras_addons_l6"
html_static_path = ["static"]
html_css_files = ["pages.css"]

# The gallery in the order in which to read it: first steps, then what each part does, then research.
GALLERY = [
    "quickstart",
    "plot_training_health",
    "plot_fold_and_export",
    "plot_lbfgs_regression",
    "plot_adam_then_lbfgs",
    "plot_lecture_activations",
    "plot_lecture_selu_depth",
    "plot_lecture_norms",
    "plot_lecture_batch_norm_modes",
    "plot_lecture_optimizer_paths",
    "plot_lecture_weight_decay",
    "plot_lecture_cosine_schedule",
    "plot_lecture_newton",
    "plot_burgers_pinn",
    "plot_pinn_inverse",
    "plot_pinn_quasi_newton",
]


def place_in_gallery(filename):
    """A script's place; one that the list above does not name stops the build."""
    return GALLERY.index(Path(filename).stem)


# The gallery's scripts take minutes: `GALLERY=1` runs them, without it their text and their thumbnails are shown.
sphinx_gallery_conf = {
    "examples_dirs": [str(ROOT / "examples")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "plot_gallery": "True" if os.environ.get("GALLERY") else "False",
    "within_subsection_order": place_in_gallery,
    "download_all_examples": False,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "show_memory": False,
}


def put_thumbnails(app):
    """Show the thumbnails that `docs/thumbnails.py` has drawn, whether or not this build runs the scripts."""
    for script in GALLERY:
        drawn = ROOT / "docs" / "thumbnails" / f"{script}.png"
        shutil.copy(drawn, ROOT / "docs" / "gallery" / "images" / "thumb" / f"sphx_glr_{script}_thumb.png")


def check_every_public_name_is_documented(app, environment):
    """Warn, which fails the build under -W, for each public name that no page documents."""
    documented = {name.rpartition(".")[2] for name in environment.get_domain("py").objects}
    for name in keras_addons_l6.__all__:
        if name not in documented:
            sphinx.util.logging.getLogger(__name__).warning(
                "public name %s is not documented; add it to docs/api.rst", name
            )


def signature_of_constructor(app, what, name, obj, options, signature, returns):
    """The arguments of a Keras layer and their defaults: Keras's `Layer.__new__`, which takes anything, hides them."""
    if what != "class" or not issubclass(obj, keras.layers.Layer):
        return None
    constructor = sphinx.util.inspect.signature(obj.__init__, bound_method=True)
    parameters = [p.replace(default=_as_written(p.default)) for p in constructor.parameters.values()]
    shown = constructor.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    return sphinx.util.inspect.stringify_signature(shown, show_annotation=False), None


class _Written:
    """A default as a reader would write it."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def _as_written(default):
    """`default`; an initializer, which prints as an address, as its class and its configuration."""
    if not isinstance(default, keras.initializers.Initializer):
        return default
    values = ", ".join(repr(value) for value in default.get_config().values())
    return _Written(f"{type(default).__name__}({values})")


def shorten_types(app, domain, object_type, content):
    """Leave out types that say nothing, such as Any, and write long ones shorter: after autodoc has put them there."""
    for field in list(content.findall(nodes.field)):
        if not field[0].astext().startswith(("type ", "vartype ")):
            continue
        long = field[1].astext()
        short = _shortened(long)
        if short is None:
            field.parent.remove(field)
        elif short != long:
            field[1].clear()
            field[1] += nodes.paragraph("", short)


def _shortened(annotation):
    """The type as a reader wants it, or None where it says nothing."""
    text = re.sub(r"~?\b(?:\w+\.)+(?=\w)", "", annotation)  # names without their modules
    text = re.sub(r"Callable\[(\[[^]]*\]|\.\.\.), [^]]*\]", "Callable", text)
    text = text.replace("dict[str, Any]", "dict")
    return None if text in ("Any", "object", "Unpack[BaseArguments]") else text


def check_page_opens_with_words(app, doctree):
    """Warn where the first thing on a page is code: a reader should know first what it is for."""
    first = doctree
    while isinstance(first, nodes.document | nodes.section):
        past = nodes.title | nodes.comment | nodes.target | nodes.substitution_definition
        first = next((child for child in first.children if not isinstance(child, past)), None)
    if isinstance(first, nodes.literal_block):
        sphinx.util.logging.getLogger(__name__).warning("the page opens with code", location=first)


def keep_short_cells_whole(app, doctree):
    """Mark the cells of tables that should not be broken, names and numbers: pages.css keeps each on one line."""
    for cell in doctree.findall(nodes.entry):
        text = cell.astext()
        if any(cell.findall(addnodes.pending_xref)):  # a link has no text yet
            continue
        is_code = any(cell.findall(nodes.raw))  # lines with a <br> between them
        if is_code or len(text) <= 14 or (text[:1].isdigit() and len(text) <= 30):
            cell["classes"].append("short")


def setup(app):
    """Register the check and what makes the reference readable."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"  # what napoleon's `napoleon_use_ivar` lists are
    app.connect("builder-inited", put_thumbnails, priority=900)  # after the gallery is made
    app.connect("env-check-consistency", check_every_public_name_is_documented)
    app.connect("autodoc-process-signature", signature_of_constructor)
    app.connect("doctree-read", check_page_opens_with_words)
    app.connect("doctree-read", keep_short_cells_whole)
    app.connect("object-description-transform", shorten_types, priority=900)
