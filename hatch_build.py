"""Compile the dense CRF, the chunk reader and the pixel counter, with any C++ compiler.

pip calls this for `pip install .`, `pip install -e .` and for a wheel. A library is written next to
its sources. It is called through ctypes and does not use Python's API, so one wheel serves every
version of Python on a platform.
"""

import os
import platform
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CRF = "postproc/dense_crf/kernel.so"
SINGLE = ("evaluation/count_pixels.so", "members/chunk_read.so")
FLAGS = [
    *("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti"),
    *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
]
FUSED = "-ffp-contract=fast"
# The CRF is compiled once per vector instruction set; the library chooses when it is loaded.
X86 = {
    "avx512": "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mprefer-vector-width=512",
    "avx2": "-mavx2 -mfma",
    "plain": "",
}
VARIANTS = X86 if platform.machine().lower() in ("x86_64", "amd64") else {"plain": ""}


class KernelHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds the libraries and adds them to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected, also for an editable install."""
        root = Path(self.root)
        kernel = (root / CRF).with_name("kernel.cpp")
        variants = [(kernel, name, f"{flags} {FUSED}") for name, flags in VARIANTS.items()]
        build(root / CRF, [(kernel.with_name("dispatch.cpp"), "dispatch", ""), *variants])
        for library in SINGLE:
            build(root / library, [((root / library).with_suffix(".cpp"), "single", "")])
        build_data["artifacts"] += [CRF, *SINGLE]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"


def build(library: Path, sources: list[tuple[Path, str, str]]) -> None:
    """Write a library next to its sources, whole or not at all.

    Args:
        library: the file.
        sources: (file, name, extra flags) of each part.
    """
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        parts = [_compile(source, Path(scratch), name, flags) for source, name, flags in sources]
        whole = Path(scratch) / library.name
        _run([*_compiler(), "-shared", *map(str, parts), "-o", str(whole)])
        whole.replace(library)


def _compile(source: Path, scratch: Path, name: str, flags: str) -> Path:
    target = scratch / f"{name}.o"
    arguments = [*FLAGS, *flags.split(), f"-DVARIANT={name}", "-c", str(source), "-o", str(target)]
    _run([*_compiler(), *arguments])
    return target


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "c++"))


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        raise SystemExit(
            f"{command[0]} not found; install a C++ compiler (g++, clang++), or name one in CXX"
        ) from None


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
