"""How kernels are compiled, and where the machine code is kept.

Numba keeps a compiled function until the file it stands in changes; what it calls or has inlined may change unseen.
Here the folder is named after a hash of all kernels and of the compiler's versions, so that code made from other
sources is never found, and processes that need the same function at once compile it once.
"""

from __future__ import annotations

import hashlib
import os
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
    if cache_folder() is not None:
        kernel._cache = _KernelCache(function)
        kernel.compile = _one_at_a_time(kernel.compile, f"{kernel._cache._impl.filename_base}.lock")
    return kernel


@cache
def cache_folder() -> Path | None:
    """Return the folder of these sources' machine code, made if need be, or None where nothing can be written.

    It lies in ``MFSPARK_CACHE_DIR`` or ``NUMBA_CACHE_DIR`` if set, else beside this file, else (packages that are
    read-only or in a zip file) in the user's cache folder, else in a folder of the user's in the temporary one.
    """
    for base in _bases():
        folder = base / f"kernels-{fingerprint()}"
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            tempfile.TemporaryFile(dir=folder).close()
            # The temporary folder is everybody's: somebody else's machine code is not run.
            if hasattr(os, "getuid") and base.parent == Path(tempfile.gettempdir()) and _owner(base) != os.getuid():
                continue
            os.utime(folder)
            _prune(base)
            return folder
    return None


def fingerprint() -> str:
    """Return the hash of the kernels' sources, Python, numba and llvmlite; numba itself adds the processor."""
    digest = hashlib.sha256(repr((sys.version, numba.__version__, llvmlite.__version__)).encode())
    for name, content in sorted(_sources(files("mfspark.kernels"), "")):
        digest.update(f"{name} {len(content)} ".encode() + content)
    return digest.hexdigest()[:20]


def _sources(folder: Any, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each module below a folder, which may be in a zip file."""
    for entry in folder.iterdir():
        if entry.is_dir():
            if entry.name != "__pycache__":
                yield from _sources(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith((".py", ".pyc")):
            yield prefix + entry.name, entry.read_bytes()


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


def _prune(base: Path) -> None:
    """Remove the machine code of other sources but for the most recently used."""
    with suppress(OSError):
        for old in sorted(base.glob("kernels-*"), key=lambda folder: -folder.stat().st_mtime)[KEPT_FOLDERS:]:
            shutil.rmtree(old, ignore_errors=True)


class _Locator(_CacheLocator):
    """Numba's question where to keep a function's machine code, answered."""

    def __init__(self, function: Callable[..., Any], path: str) -> None:
        self._py_file = path
        self._name = f"{function.__module__}-{function.__code__.co_firstlineno}"

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator:
        return cls(py_func, py_file)

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        """Return nothing: the folder's name is the stamp."""
        return ""

    def get_disambiguator(self) -> str:
        return self._name


class _KernelCacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]


class _KernelCache(FunctionCache):
    _impl_class = _KernelCacheImpl


def _one_at_a_time(compile_signature: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Let one process at a time compile this function: those that waited load what the first one has kept."""

    @wraps(compile_signature)
    def in_turn(signature: Any) -> Any:
        # Numba's lock comes first in every thread, and callees are compiled inside callers: no circle of waits.
        with global_compiler_lock, _locked(name):
            return compile_signature(signature)

    return in_turn


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with ExitStack() as stack:
        with suppress(OSError):  # a file system without locks, or a folder that was removed: compile all the same
            lock = stack.enter_context(open(Path(str(cache_folder())) / name, "w"))
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
