"""What the allocator does with buffers once large documents have been there."""

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, sys
from gateway.allocator import give_back_large_buffers

NAMES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"  # mallinfo(3)

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in NAMES.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
if sys.argv[1] == "with":
    give_back_large_buffers()
large = bytes(10_000_000)
del large
before = libc.mallinfo2().hblks
buffers = [bytes(200_000) for _ in range(20)]
print(libc.mallinfo2().hblks - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator of another C library")
@pytest.mark.parametrize(("how", "apart"), [("with", 20), ("without", 0)])
def test_after_a_large_document_buffers_still_lie_apart(how: str, apart: int) -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM, how], capture_output=True, text=True, check=True)
    assert int(run.stdout) == apart
