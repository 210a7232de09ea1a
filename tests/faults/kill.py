#!/usr/bin/env python3
"""Kills an INSERT at every system call that changes something, and looks with xarray and zarr-python at what is left.

    python tests/faults/kill.py target/debug/hyperslab [CUBE...]

Needs strace, xarray and zarr. Nothing of hyperslab runs between the kill and the look. What is promised then:

    whole dataset, consolidated metadata    the old or the new version
    each array on its own                   an old or a new shape, with the values that belong to it
    after one look of hyperslab             as above, and all arrays agree
"""

import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import xarray
import zarr

from power_loss import CUBES, FIXTURES, insert, read, row

CALLS = ("write,pwrite64,openat,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,"
         "fsync,fdatasync,ftruncate")


def whole(cube, consolidated):
    with xarray.open_zarr(cube, decode_times=False, consolidated=consolidated) as data:
        count = data.sizes["time"]
        cells = list(range(count * 20))
        assert data.tas.values.ravel().tolist() == cells, "tas"
        assert (data.pr.values.ravel() * 2).tolist() == cells, "pr"
        assert data.time.values.tolist() == list(range(count)), "time"
    return count


def alone(cube):
    """The lengths of the arrays, each of which has the values that belong to it."""
    tas = zarr.open_array(f"{cube}/tas", mode="r")[...]
    assert tas.ravel().tolist() == list(range(tas.size)), "tas"
    time = zarr.open_array(f"{cube}/time", mode="r")[...]
    assert time.tolist() == list(range(time.size)), "time"
    return {tas.shape[0], time.size}


def main():
    warnings.simplefilter("ignore")
    hyperslab = str(Path(sys.argv[1]).resolve())
    for name in sys.argv[2:] or CUBES:
        seen, calls, at = [], CALLS.split(","), 0
        while calls:
            # strace counts each system call by its name.
            call, at = calls[0], at + 1
            with tempfile.TemporaryDirectory() as place:
                cube = Path(place) / "cube.zarr"
                shutil.copytree(FIXTURES / f"{name}.zarr", cube)
                statement = f"INSERT INTO '{cube}' SELECT * FROM '{FIXTURES / 'more.zarr'}'"
                killed = subprocess.run(
                    ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
                     "-e", f"inject={call}:signal=SIGKILL:when={at}", hyperslab, "-c", statement],
                    env={"TOKIO_WORKER_THREADS": "1"}, capture_output=True,
                )
                where = f"{name}, {call} {at}"
                by_arrays = alone(cube)
                assert by_arrays <= {6, 9}, f"{where}: {by_arrays}"
                # Without consolidated metadata there is no look at the whole that is not one array after the other.
                if not name.endswith("_plain"):
                    count = whole(cube, True)
                    assert count in (6, 9), f"{where}: {count}"
                rows = read(hyperslab, cube)
                count = len(rows) // 20
                assert count in (6, 9) and rows == [row(k) for k in range(count * 20)], where
                assert alone(cube) == {count} and whole(cube, False) == count, where
                if killed.returncode == 0:
                    calls, at = calls[1:], 0
                    continue
                seen.append(count)
                subprocess.run([hyperslab, "-c", insert(cube, count)], check=True, capture_output=True)
                assert whole(cube, True) == count + 1 and whole(cube, False) == count + 1, f"{where}: the next INSERT"
        print(f"{name}: killed at {len(seen)} calls: {seen.count(6)} times the old version, {seen.count(9)} times the new one",
              flush=True)


if __name__ == "__main__":
    main()
