"""The same questions of files behind a web server that is far away: hyperslab, xarray and zarr-python, in one run.

    python benches/far/run.py FOLDER target/release/hyperslab [--latency 50] [--repeat 3]

Needs nginx, and Python with netCDF4, xarray, h5netcdf, fsspec, aiohttp, zarr and obstore. Each answer is compared with that of
netCDF4 on the file before its time counts. Files are made in FOLDER (1 GB each).
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent

QUESTIONS = {
    # name: SQL over {table}, selection along time and along lat
    "mean of 365 chunks": ("SELECT avg(tas) AS x FROM {table}", slice(None), slice(None)),
    "mean of January": (
        "SELECT avg(tas) AS x FROM {table} WHERE time < '2001-02-01'",
        slice(0, 31),
        slice(None),
    ),
    "mean of a day": (
        "SELECT avg(tas) AS x FROM {table} WHERE time = '2001-07-04'",
        slice(184, 185),
        slice(None),
    ),
}

PEER = """
import sys, json, numpy as np
kind, url, time_from, time_to = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
import xarray as xr
if kind == "netcdf":
    import fsspec
    data = xr.open_dataset(fsspec.open(url).open(), engine="h5netcdf", chunks=None)
else:
    import obstore, zarr
    from obstore.store import HTTPStore
    from zarr.storage import ObjectStore
    data = xr.open_zarr(ObjectStore(HTTPStore.from_url(url, client_options={"allow_http": True})), chunks=None)
print(json.dumps(float(data.tas[time_from:time_to].mean(dtype="f8"))))
"""

TRUTH = """
import sys, json, netCDF4
with netCDF4.Dataset(sys.argv[1]) as file:
    print(json.dumps(float(file["tas"][int(sys.argv[2]):int(sys.argv[3])].mean(dtype="f8"))))
"""


def make(folder):
    """Files of 365 days, 600 x 1200 float32 each, in chunks of a day."""
    import netCDF4
    import numpy as np
    import xarray as xr

    path = folder / "big.nc"
    if not path.exists():
        with netCDF4.Dataset(path, "w") as file:
            for name, length in (("time", None), ("lat", 600), ("lon", 1200)):
                file.createDimension(name, length)
            days = file.createVariable("time", "f8", ("time",))
            days.units, days.calendar = "days since 2001-01-01", "standard"
            for name, values in (("lat", np.linspace(-90, 90, 600)), ("lon", np.arange(1200) * 0.3)):
                file.createVariable(name, "f4", (name,))[:] = values
            tas = file.createVariable("tas", "f4", ("time", "lat", "lon"), chunksizes=(1, 600, 1200))
            random = np.random.default_rng(0)
            for day in range(365):
                days[day] = day
                tas[day] = 280 + 10 * random.standard_normal((600, 1200), dtype="f4")
    if not (folder / "big.zarr").exists():
        xr.open_dataset(path, chunks={"time": 1}).to_zarr(folder / "big.zarr", zarr_format=2, consolidated=True)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def nginx(folder, place, port):
    config = place / "nginx.conf"
    config.write_text(
        f"daemon off; pid {place}/pid; error_log {place}/error;\n"
        "worker_processes 2;\nevents {{}}\nhttp {{ log_format short '$status $body_bytes_sent $uri'; access_log {log} short;\n"
        "keepalive_requests 100000; client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;\n"
        "uwsgi_temp_path {place}/u; scgi_temp_path {place}/s; sendfile on;\n"
        "server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n".format(
            log=place / "log", place=place, port=port, folder=folder
        )
    )
    return subprocess.Popen(["nginx", "-c", str(config), "-e", str(place / "error")])


def timed(command, environment=None):
    """Seconds, the most memory in MB, and what was written."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **(environment or {})})
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024, out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("binary")
    parser.add_argument("--latency", type=float, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r}); import run, pathlib; "
                    f"run.make(pathlib.Path({str(folder)!r}))"], check=True)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        port, far = free_port(), free_port()
        server = nginx(folder, place, port)
        proxy = subprocess.Popen(
            [sys.executable, HERE / "proxy.py", str(far), str(port), str(arguments.latency)], stdout=subprocess.PIPE
        )
        proxy.stdout.readline()
        log = place / "log"

        def requests():
            lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
            log.write_text("")
            return len(lines), sum(int(line[1]) for line in lines)

        try:
            url = f"http://127.0.0.1:{far}/"
            timed([arguments.binary, "-c", f"DESCRIBE '{url}big.nc'"])
            count, received = requests()
            print(f"opening big.nc: {count} requests, {received / 1e6:.1f} MB")
            for name in ("big.nc", "big.zarr"):
                for question, (sql, days, _) in QUESTIONS.items():
                    first, last, _ = days.indices(365)
                    # In a process of its own: those that are measured begin with the memory of this one.
                    truth = [sys.executable, "-c", TRUTH, str(folder / "big.nc"), str(first), str(last)]
                    expected = json.loads(subprocess.check_output(truth))
                    ask = lambda where: [arguments.binary, "--format", "ndjson", "-c", sql.format(table=f"'{where}'")]
                    cache = tempfile.TemporaryDirectory(dir=place)
                    kept = {"HYPERSLAB_CACHE_DIR": cache.name}
                    contenders = {
                        "file of this machine": (ask(folder / name), None),
                        "hyperslab": (ask(url + name), None),
                        "hyperslab, on disk": (ask(url + name), kept),
                        "peer": (
                            [
                                sys.executable,
                                "-c",
                                PEER,
                                "netcdf" if name.endswith("nc") else "zarr",
                                url + name,
                                str(first),
                                str(last),
                            ],
                            None,
                        ),
                    }
                    timed(*contenders["hyperslab, on disk"])
                    best = {}
                    for _ in range(arguments.repeat):
                        for contender, (command, environment) in contenders.items():
                            requests()
                            seconds, memory, out = timed(command, environment)
                            got = json.loads(out)
                            got = got["x"] if isinstance(got, dict) else got
                            assert abs(got - expected) < 1e-6 * abs(expected), (contender, got, expected)
                            run = (seconds, memory, *requests())
                            best[contender] = min(best.get(contender, run), run)
                    peer = best["peer"][0]
                    print(f"{name}, {question}:")
                    for contender, (seconds, memory, count, received) in best.items():
                        print(
                            f"  {contender:22} {seconds:7.3f} s  {peer / seconds:6.1f}x  {memory:5.0f} MB"
                            f"  {count:4} requests  {received / 1e6:8.1f} MB"
                        )
                    cache.cleanup()
        finally:
            proxy.kill()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
