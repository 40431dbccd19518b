"""How kernels are compiled, and where the machine code is kept.

Numba keeps a compiled function until the file it stands in changes; what it calls or has inlined may change unseen.
Here a module's folder is named after a hash of its source, of all kernels it imports and of the compiler's versions,
so that code made from other sources is never found. Processes that need a function at once compile it once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial, wraps
from importlib.resources import files
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.compiler_lock import global_compiler_lock

try:
    import fcntl
except ImportError:  # not on Windows: there, each process compiles for itself
    fcntl = None  # type: ignore[assignment]

KEPT_FOLDERS = 4
"""Machine code of older sources goes, but for the most recently used: branches and versions take turns."""

REORDERED = {"reassoc", "contract", "arcp", "nsz"}
"""For ``fastmath``: sums may be reordered, but NaN and infinity keep their meaning, so that a failed row is noticed."""

inlined = njit(inline="always")
"""Decorator of a function that becomes part of each kernel that calls it, compile-time constants included."""


def jit(function: Callable[..., Any] | None = None, *, fastmath: bool | set[str] = False) -> Any:
    """Compile a kernel: without the GIL, dividing as numpy does, with its machine code kept on disk.

    Parameters
    ----------
    function : callable, optional
        The function; without it a decorator is returned.
    fastmath : bool or set of str, default False
        What LLVM may assume of floating point: nothing, everything, or these flags.
    """
    if function is None:
        return partial(jit, fastmath=fastmath)
    kernel: Any = njit(nogil=True, fastmath=fastmath, error_model="numpy")(function)
    folder = cache_folder(function.__module__)
    if folder is not None:
        kernel._cache = _KernelCache(function)
        kernel.compile = _one_at_a_time(kernel.compile, folder / f"{kernel._cache._impl.filename_base}.lock")
    return kernel


@cache
def cache_folder(module: str) -> Path | None:
    """Return the folder of a module's machine code, made if need be, or None where nothing can be written.

    Parameters
    ----------
    module : str
        A module of kernels; one that stands elsewhere is taken to use all of them.
    """
    base = cache_base()
    if base is None:
        return None
    folder = base / f"{module}-{fingerprint(module)}"
    with suppress(OSError):
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            _prune(base, module)
        os.utime(folder)  # it is in use
    return folder


@cache
def cache_base() -> Path | None:
    """Return the folder of all machine code.

    It lies in ``MFSPARK_CACHE_DIR`` or ``NUMBA_CACHE_DIR`` if set, else beside this file, else (packages that are
    read-only or in a zip file) in the user's cache folder, else in a folder of the user's in the temporary one.
    """
    for base in _bases():
        with suppress(OSError):
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            tempfile.TemporaryFile(dir=base).close()
            # The temporary folder is everybody's: somebody else's machine code is not run.
            if hasattr(os, "getuid") and base.parent == Path(tempfile.gettempdir()) and _owner(base) != os.getuid():
                continue
            return base
    return None


def fingerprint(module: str) -> str:
    """Return the hash of a module and all kernels it uses, Python, numba and llvmlite; numba adds the processor."""
    digest = hashlib.sha256(repr((sys.version, numba.__version__, llvmlite.__version__)).encode())
    for name in sorted(_used_by(module)):
        digest.update(f"{name} {len(_sources()[name])} ".encode() + _sources()[name])
    return digest.hexdigest()[:16]


def _used_by(module: str) -> set[str]:
    """Name the module and every module of kernels that it mentions, and that these mention; a package is all of it."""
    used: set[str] = set()
    new = {module} & _sources().keys() or {"mfspark.kernels"}
    while new:
        name = new.pop()
        below = {other for other in _sources() if other == name or other.startswith(name + ".")} - used
        used |= below
        new |= {
            found.decode() for other in below for found in re.findall(rb"\bmfspark\.kernels[\w.]*\w", _sources()[other])
        }
        new -= used
    return used


@cache
def _sources() -> dict[str, bytes]:
    """Return the source (or byte code, where only that is installed) of every module of kernels by its name."""
    return dict(_sources_below(files("mfspark.kernels"), "mfspark.kernels"))


def _sources_below(folder: Any, name: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each module below a folder, which may be in a zip file."""
    for entry in folder.iterdir():
        stem, _, extension = entry.name.rpartition(".")
        if extension in ("py", "pyc"):
            yield (name if stem == "__init__" else f"{name}.{stem}"), entry.read_bytes()
        elif entry.name != "__pycache__" and entry.is_dir():
            yield from _sources_below(entry, f"{name}.{entry.name}")


def _bases() -> Iterator[Path]:
    """Yield where machine code may be kept, best first."""
    for variable in ("MFSPARK_CACHE_DIR", "NUMBA_CACHE_DIR"):
        if os.environ.get(variable):
            yield Path(os.environ[variable]) / "mfspark"
    yield Path(__file__).parent / "__pycache__"
    with suppress(RuntimeError):  # a container's user may have no home
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfspark"
    yield Path(tempfile.gettempdir()) / f"mfspark-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


def _owner(folder: Path) -> int:
    return folder.lstat().st_uid


def _prune(base: Path, module: str) -> None:
    """Remove a module's machine code of other sources but for the most recently used."""
    folders = sorted(base.glob(f"{module}-*"), key=lambda folder: -folder.stat().st_mtime)
    for old in folders[KEPT_FOLDERS:]:
        shutil.rmtree(old, ignore_errors=True)


class _Locator(_CacheLocator):
    """Numba's question where to keep a function's machine code, answered."""

    def __init__(self, function: Callable[..., Any], path: str) -> None:
        self._py_file = path
        self._folder = str(cache_folder(function.__module__))
        self._line = str(function.__code__.co_firstlineno)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)

    def get_cache_path(self) -> str:
        return self._folder

    def get_source_stamp(self) -> str:
        """Return nothing: the folder's name is the stamp."""
        return ""

    def get_disambiguator(self) -> str:
        return self._line


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]


class _KernelCache(FunctionCache):
    _impl_class = _KernelCacheImpl


def _one_at_a_time(compile_signature: Callable[..., Any], lock: Path) -> Callable[..., Any]:
    """Let one process at a time compile this function: those that waited load what the first one has kept."""

    @wraps(compile_signature)
    def in_turn(signature: Any) -> Any:
        # Numba's lock comes first in every thread, and callees are compiled inside callers: no circle of waits.
        with global_compiler_lock, _locked(lock):
            return compile_signature(signature)

    return in_turn


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with ExitStack() as stack:
        with suppress(OSError):  # a file system without locks, or a folder that was removed: compile all the same
            lock = stack.enter_context(open(path, "w"))
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
