"""A destination on disk that is either written whole or left as it was."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["as_full_disk", "free_destination", "written_whole"]

# no room, over quota, or past the size that a file may have
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def free_destination(filepath: str | os.PathLike[str], overwrite: bool, directory: bool = False) -> Path:
    """Say early whether a destination can be written.

    Args:
        filepath: The file or directory to be.
        overwrite: Whether one that exists may be replaced.
        directory: Whether it is to be a directory. One that exists is replaced only where it is a SavedModel
            or empty, so that a mistyped path never costs more than an artifact.

    Returns:
        The destination, absolute.

    Raises:
        FileExistsError: It exists and may not be replaced.
        FileNotFoundError: The directory it is to lie in does not exist.
        OSError: That directory cannot be written.
    """
    destination = Path(os.path.abspath(filepath))
    if not destination.parent.is_dir():
        raise FileNotFoundError(f"the directory '{destination.parent}' does not exist; create it first")
    if os.path.lexists(destination):
        _refuse_to_replace(destination, overwrite, directory)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as scratch:
        Path(scratch, "tried").write_bytes(b"tried")
    return destination


def as_full_disk(error: BaseException, path: Path) -> None:
    """Raise an `OSError` where a disk without room is behind an error, whatever a library made of it.

    Args:
        error: What a writer raised.
        path: What it was writing.

    Raises:
        OSError: With `errno.ENOSPC`.
    """
    cause: BaseException | None = error
    while cause is not None:
        if (
            getattr(cause, "errno", None) in _NO_ROOM
            or os.strerror(errno.ENOSPC).lower() in str(cause).lower()
        ):
            said = f"{os.strerror(errno.ENOSPC)}; nothing was written"
            raise OSError(errno.ENOSPC, said, str(path.name)) from error
        cause = cause.__cause__ or cause.__context__


def _refuse_to_replace(destination: Path, overwrite: bool, directory: bool) -> None:
    if not overwrite:
        raise FileExistsError(
            f"'{destination}' exists; choose another destination, or overwrite it explicitly"
        )
    if directory:
        is_artifact = destination.is_dir() and (
            Path(destination, "saved_model.pb").exists() or not any(destination.iterdir())
        )
        wanted = "a SavedModel"
    else:
        is_artifact, wanted = destination.is_file(), "a file"
    if not is_artifact:
        raise FileExistsError(f"'{destination}' exists and is not {wanted}; it is not overwritten")


@contextlib.contextmanager
def written_whole(destination: Path, overwrite: bool) -> Iterator[Path]:
    """A path to write to; what lies in its directory is moved beside the destination when the block succeeds.

    The path has the destination's name, in a hidden directory beside it (so that the move is a rename), which
    is gone at the end, whatever happens.

    Args:
        destination: What `free_destination` returned.
        overwrite: Whether files that have come to exist there may be replaced.

    Yields:
        The path to write to. Files that the writer puts beside it are moved as well.

    Raises:
        FileExistsError: Something has come to exist at the destination, or where a file beside it is to go.
    """
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}.", dir=destination.parent) as scratch:
        written, replaced = Path(scratch, "written"), Path(scratch, "replaced")
        written.mkdir()
        replaced.mkdir()
        yield written / destination.name
        targets = [destination.parent / path.name for path in written.iterdir()]
        taken = [target for target in targets if os.path.lexists(target)]
        for target in taken if not overwrite else ():
            raise FileExistsError(
                f"'{target}' exists; choose another destination, or overwrite it explicitly"
            )
        _rename_all(
            [(target, replaced / target.name) for target in taken]
            + [(written / target.name, target) for target in targets]
        )


def _rename_all(moves: Sequence[tuple[Path, Path]]) -> None:
    """Make every move, or take those made back."""
    with contextlib.ExitStack() as undo:
        for source, target in moves:
            os.rename(source, target)
            undo.callback(os.rename, target, source)
        undo.pop_all()
