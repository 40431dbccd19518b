"""Print what becomes of the tiles on 64-bit ARM: run here at NEON's width, then written as assembly for ARM."""

import json
import os
import re
import tempfile

import llvmlite.binding as llvm
import numba
import numpy as np

TRIPLE = "aarch64-unknown-linux-gnu"


def with_features(features):
    """Import the tiles as on a processor with these features."""
    numba.njit(lambda: 1)()  # numba has asked for the real ones
    real, llvm.get_host_cpu_features = llvm.get_host_cpu_features, lambda: features
    from mfspark.kernels import simd

    llvm.get_host_cpu_features = real
    return simd


def assembly(text, cpu):
    """Return a kernel's code for a processor, from what numba has emitted for this one."""
    text = re.sub(r"^target (triple|datalayout).*$", "", text, flags=re.M)
    text = re.sub(r'"target-(cpu|features)"="[^"]*"', "", text)
    # Numba's counting of references is written with instructions of x86.
    counting = r"^define [^@]*(@NRT_\w+)\(([^)]*)\)[^{]*\{.*?^\}"
    text = re.sub(counting, lambda found: f"declare void {found[1]}(ptr)", text, flags=re.M | re.S)
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, opt=3)
    module = llvm.parse_assembly(text)
    module.triple, module.data_layout = TRIPLE, str(machine.target_data)
    return machine.emit_assembly(module)


def told(code):
    """Count the fused multiply-adds by their vectors, scalar ones, and vectors that inner loops keep on the stack."""
    blocks = re.findall(r"^(\S+):(.*?)(?=^\S+:|\Z)", code, flags=re.M | re.S)
    inner = [
        block for name, block in blocks if re.search(rf"\bb\.\w+\s+{re.escape(name)}\b", block) and "fmla" in block
    ]
    return {
        "vectors": sorted(set(re.findall(r"\bfmla\s+v\d+\.(\w+)", code))),
        "loops": sorted({len(re.findall(r"\bfmla\b", block)) for block in inner}),
        "scalar": len(re.findall(r"\bfmadd\b", code)),
        "spilled": sum(len(re.findall(r"\b(?:ldr|str|ldp|stp)\s+q\d+.*\[sp", block)) for block in inner),
    }


def main():
    """Print the registers, the largest error of a product, and the figures for each type and processor."""
    simd = with_features({"neon": True})
    rng, worst = np.random.default_rng(0), 0.0
    for dtype in (np.float32, np.float64):
        for k in (16, 48, 64, 80):
            A, C = rng.normal(size=(33, k)).astype(dtype), np.zeros((k, k), dtype)
            simd.add_outer(A, A, 33, 0, C)
            worst = max(worst, np.abs(np.triu(C) - np.triu(A.astype(float).T @ A.astype(float))).max())
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    emitted = [
        {"type": str(signature[0].dtype), "cpu": cpu, **told(assembly(text, cpu))}
        for signature, text in simd.add_outer.inspect_llvm().items()
        for cpu in ("neoverse-n1", "neoverse-v2", "apple-m1")
    ]
    shape = simd.VECTOR_BYTES, simd.TILE_VECTORS
    print(json.dumps({"registers": shape, "error": float(worst), "emitted": emitted}))  # noqa: T201


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MFSPARK_CACHE_DIR"] = folder  # this processor must never find such code
        main()
