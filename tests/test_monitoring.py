"""The Grafana dashboard and the alert rules of Prometheus use metrics and labels that a server has."""

import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from codec_wire.errors import NotReady
from tests.support.fake_engine import FakeEngine
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import run_http_gateway, run_servers
from tests.support.upstream_servers import RefusingEngine, generate_until, upstream_server

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
DASHBOARD, ALERTS = DEPLOY / "grafana/codec-diffusers.json", DEPLOY / "prometheus/alerts.yml"
ADDED_BY_PROMETHEUS = {"instance", "job", "le"}
_METRIC = re.compile(r"\b((?:codec|process)_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def dashboard_queries() -> Iterator[str]:
    """Yield the queries of all panels, with a value for Grafana's variable."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m")


def alert_queries() -> list[str]:
    """Return the queries of all alert rules."""
    return re.findall(r"^ +expr: (.+)$", ALERTS.read_text(), re.MULTILINE)


def labels_by_metric(text: str) -> dict[str, set[str]]:
    """Return the names of the labels of every metric in a scrape."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def faults(query: str, known: dict[str, set[str]]) -> list[str]:
    """Return what `query` uses and a server does not have."""
    found, labels = [], set()
    for name, selector in _METRIC.findall(re.sub(_GROUPING, "", query)):
        if name not in known:
            found.append(name)
            continue
        labels |= known[name]
        used = set(_LABEL.findall(selector))
        found += [f"{name}{{{label}}}" for label in used - known[name] - ADDED_BY_PROMETHEUS]
    grouped = {label.strip() for group in _GROUPING.findall(query) for label in group.split(",")}
    return found + [f"by ({label})" for label in grouped - labels - ADDED_BY_PROMETHEUS]


@pytest_asyncio.fixture
async def known() -> AsyncIterator[dict[str, set[str]]]:
    """The labels of all metrics of a server that has completed and refused a request, and of a gateway."""
    refusing = RefusingEngine(NotReady("restarting", 1))
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        upstream_server(refusing) as a,
        upstream_server() as b,
        run_http_gateway(a.address, b.address) as (_, gateway),
    ):
        await generate_until(gateway, lambda: a.started > 0)
        for body in (LATENTS, LATENTS | {"steps": 0}):
            async with servers.http.post(IMAGES, json=body) as response:
                await response.read()
        texts = [await (await http.get("/metrics")).text() for http in (gateway, servers.http)]
        yield labels_by_metric(texts[0]) | labels_by_metric(texts[1])


async def test_queries_use_metrics_and_labels_of_a_server(known: dict[str, set[str]]) -> None:
    queries = [*dashboard_queries(), *alert_queries()]
    assert len(queries) > 30
    assert not {query: faults(query, known) for query in queries if faults(query, known)}


async def test_dashboard_shows_every_metric_of_codec(known: dict[str, set[str]]) -> None:
    shown = {name for query in (*dashboard_queries(), *alert_queries()) for name, _ in _METRIC.findall(query)}
    suffixes = re.compile("_(bucket|count|sum|total|created)$")
    families = {suffixes.sub("", name) for name in known if name.startswith("codec_")}
    assert families - {suffixes.sub("", name) for name in shown} == {"codec_max_cost"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rate(codec_nothing_total[5m])", ["codec_nothing_total"]),
        ('codec_state{codec_stat="x"}', ["codec_state{codec_stat}"]),
        ("sum by (protocol, colour) (codec_requests_total)", ["by (colour)"]),
        ('codec_requests_total{outcome!="ok", instance=~".*"}', []),
    ],
)
async def test_wrong_query_is_detected(query: str, expected: list[str], known: dict[str, set[str]]) -> None:
    assert faults(query, known) == expected


def test_dashboard_panels_have_titles_queries_and_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["type"] == "row" or panel["targets"]
        position = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_alerts_and_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel:query:{number}", "expr": query} for number, query in enumerate(dashboard_queries())]
    panels = tmp_path / "panels.yml"  # JSON is YAML
    panels.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", ALERTS, panels],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
