"""
Imports each named module by itself and prints a line for each one that fails.

Run in a process of its own: `python import_alone.py DIRECTORY MODULE...`. Every module is imported in a fork of a
process that has loaded only what the modules import from outside, so that each meets its own package anew, and quickly.
"""

import ast
import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path


def outside_imports(source: str, packages: set[str]) -> set[str]:
    """Return the installed modules outside `packages` that `source` imports."""
    names: set[str] = set()
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return names  # importing it will say so
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    tops = {name: name.split(".")[0] for name in names}
    return {name for name, top in tops.items() if top not in packages and importlib.util.find_spec(top)}


def main(directory: Path, modules: list[str]) -> None:
    """Import each of `modules`, found under `directory`, in a child process."""
    sys.path.insert(0, str(directory))
    packages = {name.split(".")[0] for name in modules}
    for name in modules:
        path = directory.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for outside in outside_imports(path.read_text("utf-8"), packages):
            importlib.import_module(outside)
    for name in modules:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 whatever stops an import, even SystemExit, is what we report
            print(f"{name}: {traceback.format_exception_only(error)[-1].strip()}", flush=True)  # noqa: T201 its output
        os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
