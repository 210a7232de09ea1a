"""The list of those who answer. As a program one answer in a fresh process: peers.py PEER QUESTION FORMAT FOLDER

Only the answer is timed, not the imports; hyperslab and CDO are programs of their own, whose whole process is timed (run.py).
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from engines import Beacon, Cdo, DataFusion, DuckDb, Hyperslab, XarraySql
from libraries import Active, Blosc2, Blosc2Slices, Dask, DaskZarrs, H5py, NetCDF4, Xarray, XarrayZarrs, Zarrs
from questions import questions

PEERS = {
    "hyperslab": Hyperslab, "CDO": Cdo, "xarray": Xarray, "xarray+zarrs": XarrayZarrs, "dask": Dask, "dask+zarrs": DaskZarrs,
    "h5py": H5py, "netCDF4": NetCDF4, "zarrs": Zarrs, "blosc2": Blosc2, "blosc2 slices": Blosc2Slices,
    "PyActiveStorage": Active, "xarray-sql": XarraySql, "Beacon": Beacon, "DuckDB": DuckDb, "DataFusion": DataFusion,
}  # fmt: skip


def main(name, question, format, folder):
    peer = PEERS[name](Path(folder))
    question = next(q for q in questions(peer.grid) if q.name == question)
    peer.load(format)
    start, used = time.perf_counter(), cpu()
    answer = peer.answer(question, format)
    answer = np.asarray(answer, "f8").ravel()
    seconds, used = time.perf_counter() - start, cpu() - used
    print(json.dumps({"seconds": seconds, "cpu": used, "answer": answer.tolist()}))


def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    main(*sys.argv[1:])
