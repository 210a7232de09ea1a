"""The same questions here and elsewhere: python run.py FOLDER [HYPERSLAB] [--small] [--only REGEX] [--peers LIST] [--repeat N]

Makes the data that is missing, compares every answer with NumPy's, and times those that are right. Figures are gathered in
FOLDER/results.json, so that a run of some questions or peers renews these alone, and written as tables between the markers of
README.md (with --small: of FOLDER/small/README.md). --only looks at "QUESTION FORMAT", such as 'mean daily.nc'.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

import make_data
import report
from grid import Grid
from libraries import Slices, Zarrs
from limits import limits
from peer import location
from peers import PEERS
from questions import questions

HERE = Path(__file__).parent
MEMORY = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.75)  # a process that wants more fails by itself
ONCE, NO_COLD = 10, 60  # seconds above which a run is not repeated, and not made cold


def main():
    options = arguments()
    folder = options.folder.resolve() / "small" if options.small else options.folder.resolve()
    make_data.make(folder, options.small)
    os.sync()
    store = folder / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {"questions": {}}
    PEERS["hyperslab"].binary = str(options.hyperslab.resolve())
    results["machine"] = report.machine(options.hyperslab)
    peers = chosen(options.peers)
    grid = Grid(options.small)
    reference = Reference(folder)
    for question in questions(grid):
        for format in [*question.formats, *parquet(question)]:
            if not re.search(options.only, f"{question.name} {format}"):
                continue
            row = results["questions"].setdefault(question.name, {}).setdefault(format, {})
            for name in peers:
                peer = PEERS[name](folder)
                if peer.can(question, format):
                    row[name] = measure(name, peer, question, format, reference, options)
                    tell(question, format, name, row[name])
            if options.limits and question.part != "none" and not format.endswith("parquet"):
                row["limit"] = limits(folder, format, question, grid, drop_cache)
            store.write_text(json.dumps(results, indent=1))
    report.write(results, questions(grid), folder / "README.md" if options.small else HERE / "README.md")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("hyperslab", type=Path, nargs="?", default=HERE / "../../target/release/hyperslab")
    parser.add_argument("--small", action="store_true", help="a tenth of the data")
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--peers", default="", metavar="LIST", help="names, separated by commas: " + ", ".join(PEERS))
    parser.add_argument("--repeat", type=int, metavar="N", help="3; with --small 1, and nothing is timed cold")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS")
    parser.add_argument("--no-limits", dest="limits", action="store_false")
    options = parser.parse_args()
    options.repeat = options.repeat or (1 if options.small else 3)
    return options


def chosen(text):
    names = [name for name in PEERS if not text or name.lower() in text.lower().split(",")]
    for name in names:
        if name != "hyperslab" and not PEERS[name].installed():
            print(f"{name} is not installed: skipped")
    return [name for name in names if name == "hyperslab" or PEERS[name].installed()]


def parquet(question):
    """Engines without array formats answer from a copy as a table, if the question is about tas."""
    return ["tas.parquet"] if "tas" in question.tables else []


class Reference:
    """NumPy's answers from uncompressed files, worked out once."""

    def __init__(self, folder):
        self.folder, self.path = folder, folder / "answers.json"
        self.known = json.loads(self.path.read_text()) if self.path.exists() else {}

    def answer(self, question, format):
        key = f"{question.name} {question.numpy}"
        if key not in self.known:
            arrays = {name: self.array(name, location(self.folder, format, name)) for name in question.tables}
            answer = Slices(self.folder).evaluate(question.numpy, arrays)
            self.known[key] = np.asarray(answer, "f8").ravel().tolist()
            self.path.write_text(json.dumps(self.known))
        return np.array(self.known[key])

    def array(self, name, path):
        if name == "sparse":
            reader = Zarrs(self.folder)
            reader.load(path.name)
            return reader.array(str(path), name)
        if name == "tas":
            with h5py.File(self.folder / "flat.nc") as f:
                tas = f["tas"]
                return np.memmap(self.folder / "flat.nc", tas.dtype, "r", tas.id.get_offset(), tas.shape)
        if name == "data":
            return h5py.File(path)["data"]
        return h5py.File(self.folder / f"{name}.nc")["tas"][:]


def measure(name, peer, question, format, reference, options):
    """The first run is compared with the reference; only a right answer is timed again."""
    run = once(name, peer, question, format, options.timeout)
    if run["status"] == "ok":
        wrong = difference(name, question, run["answer"], reference.answer(question, format))
        if wrong:
            run.update(status="wrong", text=wrong)
    if run["status"] != "ok":
        run.pop("answer", None)
        return run
    runs = [run]
    while len(runs) < options.repeat and run["seconds"] < ONCE:
        runs.append(once(name, peer, question, format, options.timeout))
    runs = [run for run in runs if run["status"] == "ok"]
    record = {**min(runs, key=lambda run: run["seconds"]), "runs": [run["seconds"] for run in runs]}
    if record["seconds"] < NO_COLD and not options.small:
        drop_cache(peer.folder, question, format)
        record["cold"] = once(name, peer, question, format, options.timeout).get("seconds")
    record.pop("answer")
    return record


def difference(name, question, answer, expected):
    """What is wrong with an answer, or nothing."""
    tolerance = {"hyperslab": question.own_tolerance, "CDO": question.cdo_tolerance}.get(name, question.tolerance)
    answer = np.asarray(answer, "f8").ravel()
    if answer.shape != expected.shape:
        return f"{answer.size} numbers instead of {expected.size}"
    off = np.abs(answer - expected)
    if np.all(off <= tolerance * np.maximum(np.abs(expected), question.scale)):
        return None
    at = int(np.nanargmax(off)) if np.isfinite(off).any() else 0
    return f"{answer[at]!r} instead of {expected[at]!r}"


def once(name, peer, question, format, timeout):
    """One run in a process of its own, with what it used; a library's process tells its seconds and CPU seconds itself."""
    with tempfile.TemporaryDirectory(dir=peer.folder) as scratch:
        output, out, err = (Path(scratch) / file for file in ("answer", "out", "err"))
        program = hasattr(peer, "command")
        if program:
            command = peer.command(question, format, output)
        else:
            command = [sys.executable, "-W", "ignore", HERE / "peers.py", name, question.name, format, peer.folder]
        launch = [sys.executable, "-IS", HERE / "launch.py", timeout, MEMORY, out, err, *command]
        told = json.loads(subprocess.run(list(map(str, launch)), stdout=subprocess.PIPE, check=True).stdout)
        code, timed_out = told.pop("code"), told.pop("timed_out")
        if timed_out:
            return {**told, "status": "timeout", "text": f"> {timeout:.0f} s"}
        if code != 0:
            return {**told, "status": "failed", "text": reason(err.read_text(errors="replace"), code)}
        text = out.read_text()
        answer = {"answer": peer.parse(question, output, text)} if program else json.loads(text.splitlines()[-1])
        return {"status": "ok", **told, **answer}


def reason(errors, code):
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else f"exit code {code}"


def drop_cache(folder, question, format):
    """Takes the files of a dataset out of the page cache."""
    for table in question.tables:
        path = location(folder, format, table)
        for file in [path] if path.is_file() else filter(Path.is_file, path.rglob("*")):
            handle = os.open(file, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def tell(question, format, name, record):
    text = f"{record['seconds']:.3f} s" if record["status"] == "ok" else f"{record['status']}: {record['text']}"
    print(f"{question.name:10} {format:16} {name:16} {text}", flush=True)


if __name__ == "__main__":
    main()
