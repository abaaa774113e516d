from pathlib import Path

import pytest

from gateway import simulators
from gateway.simulators.ebox import EboxSimulator
from gateway.simulators.faults import FAULTS
from gateway.simulators.print_house import PrintHouseSimulator

README = Path(simulators.__path__[0], "README.md")


@pytest.mark.parametrize("simulator", [EboxSimulator, PrintHouseSimulator])
def test_the_page_names_every_fault_operation_and_control_call(simulator):
    text = README.read_text("utf-8")
    engine = simulator().faults
    for name in (*FAULTS, *engine.operations, *engine._header_facts, *engine._body_facts):
        assert f"`{name}`" in text
    for route in simulator().app.router.routes():
        path = route.resource.canonical
        if path.startswith("/_simulator/"):
            assert path.removeprefix("/_simulator/") in text
