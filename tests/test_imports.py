"""What an import costs: modules that a Python worker loads must not bring what it does not use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mfspark

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("numpy", "numba", "llvmlite", "pyarrow", "pyspark", "delta", "pandas", "scipy", "yaml", "pydantic")
# Numba itself imports the bare package scipy, and yaml where it is installed.
SCIPY = ("scipy.linalg", "scipy.sparse", "scipy.special", "scipy.stats")
NOT_IN_WORKERS = (*SCIPY, "pyspark.ml", "delta", "pandas", "pydantic", "mfspark.estimators")
DRIVER_ONLY = {
    f"model/{name}.py"
    for name in ("bpmf", "load", "mllib", "model", "params", "persistence", "registry", "reporting", "stored")
}


def loaded_by(module, unwanted):
    """Return which of these modules importing one brings into a fresh Python."""
    program = f"import sys, {module}; print(*(name for name in {unwanted!r} if name in sys.modules))"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def worker_modules():
    """Name every module whose functions may run in a Python worker."""
    for room in ("kernels", "transport", "blocks", "training", "model"):
        for path in sorted((ROOT / "mfspark" / room).rglob("*.py")):
            name = path.relative_to(ROOT / "mfspark").as_posix()
            if path.name != "__init__.py" and name not in DRIVER_ONLY:
                yield "mfspark." + name.removesuffix(".py").replace("/", ".")


def test_the_package_loads_no_library():
    assert loaded_by("mfspark", LIBRARIES) == []


def test_worker_modules_load_nothing_they_do_not_need():
    assert loaded_by(", ".join(worker_modules()), NOT_IN_WORKERS) == []


def test_kernels_load_no_spark():
    kernels = [name for name in worker_modules() if name.startswith("mfspark.kernels.")]
    assert loaded_by(", ".join(kernels), (*SCIPY, "pyspark", "pyarrow", "pandas")) == []


def test_estimators_load_no_statistics():
    assert loaded_by("mfspark.estimators.als, mfspark.estimators.bpmf, mfspark.data", ("scipy.stats",)) == []


def test_the_check_sees_what_is_loaded():
    assert {"numpy", "numba", "llvmlite"} <= set(loaded_by("mfspark.kernels.topk", LIBRARIES))


def test_formulas_and_numbers_load_no_compiler():
    light = "mfspark.kernels.objective, mfspark.kernels.sgd.expected, mfspark.kernels.responses"
    assert loaded_by(f"{light}, mfspark.model.factorization", ("numba", "llvmlite", "pyspark", "pandas")) == []


@pytest.mark.parametrize("name", mfspark.__all__)
def test_public_names_are_found(name):
    value = getattr(mfspark, name)
    assert name in dir(mfspark)
    assert value.__name__ == {"ALSModel": "FactorizationModel"}.get(name, name)
    assert getattr(mfspark, name) is value


def test_type_checkers_see_the_public_names():
    tree = ast.parse((ROOT / "mfspark" / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    names = [alias.asname or alias.name for node in guarded.body for alias in node.names]
    assert sorted(names) == sorted(mfspark.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'ALSS'"):
        _ = mfspark.ALSS
