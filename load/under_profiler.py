"""
Runs a module under the profiler: `python -m load.under_profiler FILE MODULE ARGUMENT…`; FILE gets what it saw.

Times are those for which the thread held the processor: by the clock on the wall, what another thread did while this
one waited for the interpreter would count for whichever function waited.
"""

import cProfile
import runpy
import sys
from time import thread_time


def main() -> None:
    """Run the module as a program of its own."""
    file, module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    profiler = cProfile.Profile(thread_time)
    try:
        profiler.runcall(runpy.run_module, module, run_name="__main__", alter_sys=True)
    finally:
        profiler.dump_stats(file)


if __name__ == "__main__":
    main()
