"""The dashboards as files; test_monitoring.py asks a real Prometheus for what they show."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

DASHBOARDS = sorted((Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards").glob("*.json"))
WIDTH = 24


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def covers(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or above)


@pytest.fixture
def sources(kit: Path) -> list[dict[str, Any]]:
    file = kit / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    found: list[dict[str, Any]] = yaml.safe_load(file.read_text("utf-8"))["datasources"]
    return found


def test_there_is_an_overview() -> None:
    assert "overview.json" in {path.name for path in DASHBOARDS}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_panels_have_ids_of_their_own_a_place_and_a_description(path: Path) -> None:
    panels = read(path)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert [place for place in places if place["x"] + place["w"] > WIDTH] == []
    assert [pair for pair in combinations(places, 2) if covers(*pair)] == []
    assert [panel["title"] for panel in panels if panel["type"] != "row" and not panel["description"]] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_query_asks_the_provisioned_source(path: Path, sources: list[dict[str, Any]]) -> None:
    known = [{"type": source["type"], "uid": source["uid"]} for source in sources]
    for panel in read(path)["panels"]:
        for asked in (panel, *panel.get("targets", [])):
            assert panel["type"] == "row" or asked["datasource"] in known, panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_label_in_a_legend_is_one_that_the_query_keeps(path: Path) -> None:
    for panel in read(path)["panels"]:
        for target in panel.get("targets", []):
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            kept = {
                label.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(",")
            }
            assert shown <= kept, panel["title"]


def test_the_source_has_the_interval_at_which_prometheus_scrapes(kit: Path, sources: list[dict[str, Any]]) -> None:
    prometheus = yaml.safe_load((kit / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert [source["jsonData"]["timeInterval"] for source in sources] == [prometheus["global"]["scrape_interval"]]


def test_grafana_finds_the_dashboards_where_the_composition_puts_them(kit: Path) -> None:
    provider = yaml.safe_load((kit / "grafana" / "provisioning" / "dashboards" / "dashboards.yml").read_text("utf-8"))[
        "providers"
    ][0]
    grafana = yaml.safe_load((kit / "compose" / "compose.yaml").read_text("utf-8"))["services"]["grafana"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]


def test_every_panel_that_a_runbook_names_is_there(kit: Path) -> None:
    titles = {panel["title"] for path in DASHBOARDS for panel in read(path)["panels"]}
    named = {
        name
        for path in (kit / "runbooks").glob("*.md")
        for name in re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", path.read_text("utf-8"))
    }
    assert len(named) > 4
    assert sorted(named - titles) == []
