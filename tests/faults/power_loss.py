#!/usr/bin/env python3
"""Pulls the plug while INSERTs run: every one that was acknowledged has to be there, and none may be torn.

    sudo tests/faults/power_loss.py target/release/hyperslab [PULLS]

A cube grows on an ext4 file system in a file. What that file holds at some moment is what a disk would hold if the power
went away then: the writers are stopped, the file is copied, the copy is mounted (which replays the journal of the file
system) and looked at. Needs Linux, root, and loop devices; with xarray at hand it looks at the copy, too, before
hyperslab does. Acknowledgements are logged on another file system.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

CUBES = ["v2", "v2_plain", "v3", "v3_plain", "v3_sharded"]
FIXTURES = Path(__file__).parent.parent / "data" / "inserts"
# Run by a shell of its own, so that all of it can be stopped at once.
WRITER = """
import os, subprocess, sys
hyperslab, cube, log, first = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
sys.path.insert(0, {here!r})
from power_loss import insert
slice = first
while True:
    done = subprocess.run([hyperslab, "-c", insert(cube, slice)], capture_output=True, text=True)
    with open(log, "a") as file:
        print(slice + 1 if done.returncode == 0 else done.stderr, file=file, flush=True)
        os.fsync(file.fileno())
    if done.returncode != 0:
        sys.exit(1)
    slice += 1
"""


def day(slice):
    """Years without leap days, from 2000 on."""
    year, rest = divmod(slice, 365)
    for month, days in enumerate([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], 1):
        if rest < days:
            return f"{2000 + year}-{month:02}-{rest + 1:02}T00:00:00"
        rest -= days


def row(k):
    return [day(k // 20), k // 5 % 4 * 40.0 - 60.0, k % 5 * 10.0, float(k), k / 2]


def insert(cube, slice):
    rows = (row(k) for k in range(slice * 20, slice * 20 + 20))
    values = ", ".join(f"(TIMESTAMP '{t}', {lat}, {lon}, {tas}, {pr})" for t, lat, lon, tas, pr in rows)
    return f"INSERT INTO '{cube}' (time, lat, lon, tas, pr) VALUES {values}"


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def state(group):
    """The states of the processes of a group."""
    out = subprocess.run(["ps", "-o", "stat=", "-g", str(group)], capture_output=True, text=True)
    return [line.strip()[:1] for line in out.stdout.splitlines()]


def read(hyperslab, cube):
    sql = f"SELECT time, lat, lon, tas, pr FROM '{cube}' ORDER BY time, lat, lon"
    out = subprocess.run([hyperslab, "--format", "ndjson", "-c", sql], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return [list(json.loads(line).values()) for line in out.stdout.splitlines()]


def look_with_xarray(cube):
    """The slices that xarray sees, which have to be whole."""
    try:
        import xarray
    except ImportError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with xarray.open_zarr(cube, decode_times=False) as data:
            count = data.sizes["time"]
            cells = [k for k in range(count * 20)]
            assert data.tas.values.ravel().tolist() == cells, "xarray: tas"
            assert (data.pr.values.ravel() * 2).tolist() == cells, "xarray: pr"
            assert data.time.values.tolist() == list(range(count)), "xarray: time"
    return count


def pull(hyperslab, place, name, slices, pulls, seconds):
    """Lets a cube grow and pulls the plug several times; returns what was seen."""
    image, here, there, log = place / "disk.img", place / "disk", place / "after", place / f"{name}.log"
    for path in (here, there):
        path.mkdir(exist_ok=True)
    run("truncate", "-s", "0", image)
    run("truncate", "-s", "96M", image)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    # The file system does not write by itself: what is not synchronised is lost.
    run("mount", "-o", "loop,commit=300", image, here)
    seen = []
    writer = None
    try:
        shutil.copytree(FIXTURES / f"{name}.zarr", here / "cube.zarr")
        run("sync", "-f", here)
        log.write_text("")
        code = WRITER.format(here=str(Path(__file__).parent))
        command = [sys.executable, "-c", code, hyperslab, str(here / "cube.zarr"), str(log), str(slices)]
        writer = subprocess.Popen(command, start_new_session=True)
        for _ in range(pulls):
            time.sleep(random.uniform(*seconds))
            os.killpg(writer.pid, signal.SIGSTOP)
            while any(now not in "TZ" for now in state(writer.pid)):
                time.sleep(0.001)
            lines = log.read_text().split("\n")[:-1]
            acknowledged = int(lines[-1]) if lines else slices
            run("cp", "--sparse=always", image, place / "pulled.img")
            os.killpg(writer.pid, signal.SIGCONT)
            assert writer.poll() is None, lines[-1]
            run("mount", "-o", "loop", place / "pulled.img", there)
            try:
                cube = there / "cube.zarr"
                by_xarray = look_with_xarray(cube)
                rows = read(hyperslab, cube)
                count = len(rows) // 20
                assert rows == [row(k) for k in range(count * 20)], f"{name}: a slice is torn"
                assert count >= acknowledged, f"{name}: {acknowledged} slices were acknowledged, {count} are there"
                assert by_xarray in (None, count, count - 1), f"xarray sees {by_xarray} of {count} slices"
                run(hyperslab, "-c", insert(cube, count))
                assert read(hyperslab, cube) == [row(k) for k in range(count * 20 + 20)], f"{name}: the next INSERT"
                seen.append(count - acknowledged)
            finally:
                run("umount", there)
    finally:
        if writer:
            os.killpg(writer.pid, signal.SIGKILL)
            writer.wait()
        time.sleep(0.2)
        run("umount", here)
    return seen


def main():
    hyperslab = str(Path(sys.argv[1]).resolve())
    pulls = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    each = -(-pulls // len(CUBES))
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCRATCH")) as place:
        for name in CUBES:
            seen = pull(hyperslab, Path(place), name, 6, each, (0.02, 0.6))
            print(f"{name}: {len(seen)} pulls, nothing acknowledged was lost, nothing is torn; "
                  f"{sum(seen)} times a slice was there that was not yet acknowledged", flush=True)


if __name__ == "__main__":
    main()
