"""The command line: `python -m keras_addons_l6 inspect | fold | export`."""

import argparse
import contextlib
import importlib
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import keras

import keras_addons_l6
from keras_addons_l6.folding import FoldingError, fold_with_report, inspect_batch_norm
from keras_addons_l6.folding.errors import one_line
from keras_addons_l6.folding.exporting.destination import as_full_disk, free_destination, written_whole
from keras_addons_l6.folding.exporting.export import export_folded
from keras_addons_l6.folding.exporting.formats import FORMATS, checked_destination

__all__ = ["main"]

_SUFFIXES = (".keras", ".h5", ".hdf5")
_HDF5 = b"\x89HDF\r\n\x1a\n"  # how every HDF5 file begins

EXIT_BAD_INPUT = 2  # argparse's own
EXIT_NOT_FOLDED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shells' custom


class _Parser(argparse.ArgumentParser):
    """argparse, with errors of one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: error: {message} (--help says more)\n")


class _BadInput(Exception):
    """Something the user gave that cannot be used; the message is one line."""


class _Failed(Exception):
    """Folding or exporting that ended in an error which nobody foresaw."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; by default those of the process.

    Returns:
        The exit status: 0 done, 1 not folded or not exported right, 2 bad input, 130 interrupted.

    Example:
        >>> from keras_addons_l6.__main__ import main
        >>> main(["inspect", "no_such_model.keras"])
        2
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (FoldingError, _Failed) as error:
        return _fail(error, EXIT_NOT_FOLDED)
    except (_BadInput, ValueError, OSError) as error:
        return _fail(error, EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted, nothing was written", EXIT_INTERRUPTED)
    return 0


def _fail(error: object, status: int) -> int:
    print(f"keras_addons_l6: error: {one_line(error, 1000)}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m keras_addons_l6",
        description="Fold the BatchNorm layers of a saved Keras model into their neighbours, and check it.",
        epilog="The Keras backend is the one that KERAS_BACKEND or keras.json names. Exit status: 0 done; "
        "1 the model could not be folded or exported right; 2 bad arguments, paths or files. Unless it is 0, "
        "nothing has been written.",
    )
    version = (
        f"keras_addons_l6 {keras_addons_l6.__version__} (Keras {keras.__version__}, {keras.config.backend()})"
    )
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_inspect(commands)
    _add_fold(commands)
    _add_export(commands)
    return parser


def _add_command(commands: argparse._SubParsersAction, name: str, what: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
    command.add_argument("model", metavar="MODEL", help="a saved model, .keras or .h5")
    command.add_argument(
        "--import",
        dest="modules",
        metavar="MODULE",
        action="append",
        default=[],
        help="import a module first, for layers of your own registered there; may be repeated",
    )
    command.add_argument(
        "--unsafe",
        action="store_true",
        help="load Lambda layers too, which run code from the file; trust it first",
    )
    return command


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    command = _add_command(
        commands, "inspect", "say for each BatchNorm whether it folds, into what, or why not"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(run=_inspect)


def _add_fold(commands: argparse._SubParsersAction) -> None:
    command = _add_command(commands, "fold", "fold a model, verify it and save it")
    command.add_argument(
        "--out", metavar="OUT", required=True, help="where to save the folded model, .keras or .h5"
    )
    _add_proof(command)
    command.set_defaults(run=_fold)


def _add_export(commands: argparse._SubParsersAction) -> None:
    command = _add_command(commands, "export", "fold a model, export it, reload the artifact and compare")
    command.add_argument(
        "destination", metavar="DEST", help="the file to write, or for tf_saved_model the directory"
    )
    command.add_argument(
        "--format",
        choices=FORMATS,
        help="the format (default: what the suffix of DEST says; without a suffix, tf_saved_model)",
    )
    _add_proof(command)
    command.add_argument(
        "--option",
        dest="options",
        metavar="KEY=VALUE",
        type=_option,
        action="append",
        default=[],
        help="an argument for Keras's exporter, the value as JSON, such as opset_version=18; may be repeated",
    )
    command.set_defaults(run=_export)


def _add_proof(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--overwrite", action="store_true", help="replace what exists there, once all is well"
    )
    command.add_argument(
        "--tolerance",
        type=_positive,
        metavar="T",
        help="largest relative difference to accept (default: follows the model's own rounding noise)",
    )


def _positive(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"a positive number is wanted, got {text!r}")


def _option(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"KEY=VALUE is wanted, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@contextlib.contextmanager
def _working() -> Iterator[None]:
    """Let every error of the work itself, whatever its kind, end as a fold that failed; those of files pass."""
    try:
        yield
    except (FoldingError, OSError):
        raise
    except Exception as error:  # a layer's own code may raise anything
        raise _Failed(f"{type(error).__name__}: {one_line(error)}") from error


def _inspect(arguments: argparse.Namespace) -> None:
    model = _load(arguments)
    with _working():
        report = inspect_batch_norm(model)
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report)


def _fold(arguments: argparse.Namespace) -> None:
    destination = free_destination(arguments.out, arguments.overwrite)
    if destination.suffix not in _SUFFIXES:
        raise _BadInput(f"--out must end with .keras or .h5; got '{arguments.out}'")
    model = _load(arguments)
    with _working():
        folding = fold_with_report(model, tolerance=arguments.tolerance)
        with written_whole(destination, arguments.overwrite) as path:
            _save(folding.model, path)
    print(folding.report)
    print(f"Saved the folded model at '{destination}'")


def _save(model: keras.Model, path: Path) -> None:
    try:
        model.save(path)
    except Exception as error:  # zip and HDF5 have errors of their own for a full disk
        as_full_disk(error, path)
        raise


def _export(arguments: argparse.Namespace) -> None:
    checked_destination(arguments.destination, arguments.format, arguments.overwrite)
    model = _load(arguments)
    with _working():
        export_folded(
            model,
            arguments.destination,
            arguments.format,
            overwrite=arguments.overwrite,
            tolerance=arguments.tolerance,
            **dict(arguments.options),
        )


def _load(arguments: argparse.Namespace) -> keras.Model:
    """The model in the file, after importing the user's modules."""
    for module in arguments.modules:
        _import(module)
    path = Path(arguments.model)
    if not path.is_file():
        found = "is a directory" if path.is_dir() else "does not exist"
        raise _BadInput(f"'{path}' {found}; a .keras or .h5 file is wanted")
    if not _is_saved_model(path):
        raise _BadInput(f"cannot load '{path}': it is no saved Keras model; a .keras or .h5 file is wanted")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=not arguments.unsafe)
    except Exception as error:  # whatever a broken file or a layer's own constructor raises
        raise _BadInput(f"cannot load '{path}': {_cause(error)}{_hint(error)}") from error


def _is_saved_model(path: Path) -> bool:
    """Whether a file is of the kind its suffix says; what is neither Keras calls "not found"."""
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    return path.suffix in _SUFFIXES and (start == _HDF5 or zipfile.is_zipfile(path))


def _import(module: str) -> None:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does, for the console script
    try:
        importlib.import_module(module)
    except Exception as error:  # the module is the user's, and may raise anything
        raise _BadInput(f"cannot import '{module}': {type(error).__name__}: {one_line(error)}") from error


def _cause(error: Exception) -> str:
    """The innermost of the messages that Keras puts into one another, each with a layer's whole config."""
    return one_line(str(error).rpartition("Exception encountered:")[2], 300)


def _hint(error: Exception) -> str:
    """What to try, for the two things that Keras's own messages cannot know about."""
    if "safe_mode" in str(error):
        return " (--unsafe loads it, if you trust the file)"
    if "locate class" in str(error) or "Unknown layer" in str(error) or "registered" in str(error):
        return " (--import MODULE imports the module that defines it)"
    return ""


if __name__ == "__main__":
    sys.exit(main())
