"""The same questions here and in the libraries that people use today: python run.py FOLDER [HYPERSLAB]

FOLDER is what make_data.py wrote; HYPERSLAB the binary (target/release/hyperslab). Answers are compared before times are
printed. A hyperslab time is that of the whole process; a library's time begins after its imports. A library that is not
installed is skipped by name.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
binary = sys.argv[2] if len(sys.argv) > 2 else "target/release/hyperslab"
lines = []


def run(sql):
    """Seconds, peak memory in MB and rows of one statement in a process of its own."""
    start = time.perf_counter()
    child = subprocess.Popen([binary, "--format", "json", "-c", sql], stdout=subprocess.PIPE)
    out = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    assert status == 0, sql
    return seconds, usage.ru_maxrss / 1024, [list(row.values()) for row in json.loads(out)]


def best(times, work):
    results = [work() for _ in range(times)]
    return min(results, key=lambda result: result[0])


def timed(work):
    def once():
        start = time.perf_counter()
        answer = work()
        return time.perf_counter() - start, answer

    return once


def in_process(code, repeat=3):
    """The best time of `code` in fresh Python processes, as it prints it: seconds and answer as JSON."""
    results = []
    for _ in range(repeat):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if out.returncode != 0:
            return None
        results.append(json.loads(out.stdout.strip().splitlines()[-1]))
    return min(results)


def report(what, ours, peers):
    seconds, memory, _ = ours
    text = ", ".join(f"{name} {peer:.3f} s ({peer / seconds:.1f}×)" for name, peer in peers.items())
    line = f"| {what} | {seconds:.3f} s, {memory:.0f} MB | {text} |"
    print(line, flush=True)
    lines.append(line)


def metric(sql, name):
    plan = subprocess.run([binary, "--format", "json", "-c", "EXPLAIN ANALYZE " + sql], capture_output=True, text=True)
    text = plan.stdout
    return text.split(name + "=")[1].split(",")[0].split("]")[0]


def close(left, right):
    assert np.allclose(left, right, rtol=1e-9), (left, right)


def daily():
    code = """
import json, time, xarray as xr
coder = xr.coders.CFDatetimeCoder(use_cftime=True)
start = time.perf_counter()
ds = xr.open_dataset({path!r}, decode_times=coder)
answer = {expression}
print(json.dumps([time.perf_counter() - start, float(answer)]))
"""
    questions = {
        "mean of a year, tropics": (
            "SELECT mean(tas) FROM '{}' WHERE time BETWEEN '2003-01-01' AND '2003-12-31 23:59:59' AND lat BETWEEN -30 AND 30",
            "ds.tas.sel(time='2003', lat=slice(-30, 30)).astype('f8').mean()",
        ),
        "mean of all Julys": (
            "SELECT avg(tas) FROM '{}' WHERE month(time) = 7",
            "ds.tas.sel(time=ds.time.dt.month == 7).astype('f8').mean()",
        ),
        "mean of everything": ("SELECT avg(tas) FROM '{}'", "ds.tas.astype('f8').mean()"),
    }
    for what, (sql, expression) in questions.items():
        peer = in_process(code.format(path=str(folder / "daily.nc"), expression=expression), 2)
        for name in ("daily.nc", "daily.zarr", "daily.b2d"):
            statement = sql.format(folder / name)
            ours = best(3, lambda: run(statement))
            close(ours[2][0][0], peer[1])
            chunks = metric(statement, "chunks_read")
            report(f"{what}: {name}, {chunks} chunks read", ours, {"xarray on daily.nc": peer[0]})


def cubes():
    netcdf4 = """
import json, time, netCDF4
start = time.perf_counter()
answer = netCDF4.Dataset({path!r})["data"][0:2, 4:6, 7:9].mean()
print(json.dumps([time.perf_counter() - start, float(answer)]))
"""
    active = """
import json, time
from activestorage.active import Active
start = time.perf_counter()
active = Active({path!r}, "data")
active._version = {version}
answer = active.mean()[0:2, 4:6, 7:9]
print(json.dumps([time.perf_counter() - start, float(answer.flatten()[0])]))
"""
    for name in ("cubes.nc", "cubes_latest.nc"):
        path = str(folder / name)
        sql = f"SELECT avg(data) FROM read_array('{path}', 'data', '0:2, 4:6, 7:9')"
        ours = best(5, lambda: run(sql))
        peers = {}
        for peer, code in (
            ("netCDF4", netcdf4.format(path=path)),
            ("PyActiveStorage v2", active.format(path=path, version=2)),
            ("PyActiveStorage v1", active.format(path=path, version=1)),
        ):
            result = in_process(code)
            if result is None:
                print(f"{peer} is not installed or failed: skipped")
                continue
            close(ours[2][0][0], result[1])
            peers[peer] = result[0]
        report(f"mean of [0:2, 4:6, 7:9] of 250,047 chunks: {name}", ours, peers)


def sparse():
    sql = (
        f"SELECT count(*), sum(sparse) FROM '{folder / 'sparse.zarr'}' WHERE dim_0 BETWEEN 5000 AND 5099 "
        "AND dim_1 BETWEEN 5000 AND 5099 AND dim_2 BETWEEN 5000 AND 5099"
    )
    ours = best(5, lambda: run(sql))
    close(ours[2][0][1], 1e6)
    report("1 of 10^6 chunks of 10^12 cells", ours, {})


def start():
    report("SELECT 1", best(10, lambda: run("SELECT 1")), {})


if __name__ == "__main__":
    print("| question | hyperslab | peers (and how many times our time) |\n|---|---|---|")
    start()
    sparse()
    cubes()
    daily()
