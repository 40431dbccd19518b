"""Execute every notebook with this very Python: ``python notebooks/run.py [--save FOLDER] [NAME ...]``."""

import argparse
import sys
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
TIMEOUT = 600


class ThisPython(KernelSpecManager):
    """Knows one kernel: the running interpreter, whatever kernels the machine has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002
        """Return the kernel of this interpreter."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="this Python", language="python")


def execute(path: Path, save: Path | None = None) -> None:
    """Execute one notebook; where a folder to save is given, write it there with its outputs, if a cell fails as well."""
    notebook = nbformat.read(path, as_version=4)
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client = NotebookClient(notebook, km=kernel, timeout=TIMEOUT, resources={"metadata": {"path": str(FOLDER.parent)}})
    try:
        client.execute()
    finally:
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, save / path.name)


def main(argv: list[str] | None = None) -> int:
    """Execute the notebooks; 0 when all ran, 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of notebook names (default: all)")
    parser.add_argument("--save", type=Path, help="folder for the executed notebooks")
    arguments = parser.parse_args(argv)
    paths = sorted(FOLDER.glob("*.ipynb"))
    failed = 0
    for path in paths:
        if arguments.names and not any(name in path.name for name in arguments.names):
            continue
        started = time.time()
        try:
            execute(path, arguments.save)
            outcome = "ok"
        except CellExecutionError as error:
            failed += 1
            outcome = f"FAILED\n{error}"
        sys.stdout.write(f"{path.name}  {time.time() - started:.0f} s  {outcome}\n")
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
