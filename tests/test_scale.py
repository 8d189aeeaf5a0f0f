"""Ten million rows in one GiB: measured on fewer, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = 1_000_000

PROGRAM = """
import itertools, json
from pathlib import Path
from latentshift.data.dataset import FootageDataset
from latentshift.data.footage.framing import Framing
from latentshift.data.loader import Loader, BatchSpec
from latentshift.data.sources import list_source, parse_source
from latentshift.data.footage.window import Window

def memory(kind):
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024

before = memory("VmRSS")
manifest = list_source(Path("manifest.jsonl"), parse_source("webvid:results.csv", {}), print)
clips = FootageDataset(manifest, Window(), Framing())
loader = Loader([clips], lambda step: BatchSpec(8, 16, 8 * (step - 1)), seed=0)
places = loader._places(len(manifest) // 8 - 500)
seen = {place[-1] for _, place in itertools.islice(places, 8000)}
peak = memory("VmHWM")
print(json.dumps({"rows": len(manifest), "before": before, "peak": peak, "seen": len(seen)}))
"""


@pytest.mark.slow
def test_ten_million_rows_fit_in_one_gibibyte(tmp_path: Path) -> None:
    with (tmp_path / "results.csv").open("w") as file:
        file.write("videoid,contentUrl,duration,page_dir,name\n")
        for number in range(ROWS):
            file.write(
                f"{number},https://example.org/{number}.mp4,PT00H00M12S,{number // 1000:06d},clip {number} of many\n"
            )
    run = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True)
    output = json.loads(run.stdout)
    assert output["rows"] == ROWS and output["seen"] > 7900
    assert output["before"] + (output["peak"] - output["before"]) / ROWS * 10_000_000 < 2**30, output
