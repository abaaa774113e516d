"""Keeps the memory of a process that runs for months flat, where the C library is glibc."""

import ctypes
from typing import Final

# The numbers of its parameters, from mallopt(3) and malloc.h.
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_APART_FROM_BYTES: Final = 131_072
_ARENAS: Final = 2


def give_back_large_buffers() -> None:
    """
    Have every buffer of 128 KiB or more given back to the system as soon as it is free, and few arenas for threads.

    By itself glibc raises that limit to the size of the largest buffer that was freed, up to 32 MiB: after the first
    large document all others lie between small objects that stay, and leave holes there. To be called before there are
    threads; without effect where there is no glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _APART_FROM_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
