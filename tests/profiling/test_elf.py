"""Names of functions in ELF files; damaged files are refused."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnbench.profiling.code.addresses import AddressSpace, demangled, short_name
from attnbench.profiling.code.elf import Elf, ElfError, of_file
from attnbench.profiling.code.mappings import executable


def libc() -> Path:
    """Return the path of this process's C library."""
    return next(mapping.path for mapping in executable() if "libc.so" in mapping.name or "libc-" in mapping.name)


def test_a_function_is_found_at_its_address_and_inside_it() -> None:
    elf = of_file(libc())
    start = elf.symbol("qsort")
    assert start is not None
    assert elf.function_at(start) == elf.function_at(start + 1) == "qsort"
    assert elf.function_at(0) is None


def test_an_address_of_this_process_leads_to_its_function() -> None:
    address = ctypes.cast(ctypes.CDLL(None).qsort, ctypes.c_void_p).value
    assert address is not None
    place = AddressSpace().place(address)
    assert place.module == libc().name
    assert place.function == "qsort"


def test_where_a_function_begins_is_known_without_its_name() -> None:
    elf = of_file(libc())
    start = elf.symbol("qsort_r") or elf.symbol("getenv")
    assert start is not None
    if elf.function_start(start) is None:
        pytest.skip("this C library has no table of frames")
    assert elf.function_start(start) == elf.function_start(start + 8) == start


def test_the_c_librarys_choice_for_this_processor_has_a_name() -> None:
    address = ctypes.cast(ctypes.CDLL(None).memcpy, ctypes.c_void_p).value
    assert address is not None
    assert "mem" in AddressSpace().place(address + 4).function


def test_an_address_of_nothing_is_no_error() -> None:
    assert AddressSpace().place(64).module == "unmapped"


def test_names_of_c_plus_plus_are_written_out() -> None:
    assert demangled("_ZN2at6native7softmaxEf") == "at::native::softmax(float)"
    assert demangled("plain") == "plain"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Compile a small library."""
    folder = tmp_path_factory.mktemp("elf")
    source = folder / "a.c"
    source.write_text("int planted(int x) { return x + 1; }\n")
    made = subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", folder / "a.so", source], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip("there is no C compiler")
    return (folder / "a.so").read_bytes()


def test_a_small_library_names_what_it_defines(small: bytes) -> None:
    elf = Elf(small)
    start = elf.symbol("planted")
    assert start is not None
    assert elf.function_at(start + 2) == "planted"


@given(st.integers(0, 20_000), st.integers(0, 255), st.integers(0, 20_000))
def test_a_damaged_library_is_refused_or_read_never_worse(small: bytes, at: int, value: int, end: int) -> None:
    data = bytearray(small)
    data[at % len(data)] = value
    try:
        elf = Elf(bytes(data[: max(1, end)]) if end % 2 else bytes(data))
        elf.function_at(4096)
        elf.symbol("planted")
    except ElfError:
        pass


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("_ZN9attnbench15implementations7product5scaleB3v87B158cEx", "product.scale"),
        ("_ZN13_3cdynamic_3e36__numba_parfor_gufunc_0x7f41bf63a510B3v87Ex", "parallel loop 63a510"),
        ("__gufunc__._ZN13_3cdynamic_3e36__numba_parfor_gufunc_0x7f41bf63a510B3v87Ex", "parallel loop 63a510"),
        ("_ZN13_3cdynamic_3e33__numba_array_expr_0x7f837092ea10B3v87Ex", "array expression"),
        ("_ZN29attnbench_plugin_77d41ffd36ef6attendB3v87Ex", "attend"),
        ("NRT_decref", "NRT_decref"),
    ],
)
def test_names_of_compiled_functions_are_short(name: str, short: str) -> None:
    assert short_name(name) == short
