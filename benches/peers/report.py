"""Results as Markdown: a table for each group of questions, and how far hyperslab is from the best peer and the limits."""

import importlib.metadata
import math
import os
import platform
import subprocess
from pathlib import Path

BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
PACKAGES = (
    "xarray dask flox netCDF4 h5py zarr zarrs numcodecs imagecodecs blosc2 PyActiveStorage xarray-sql beacondb duckdb "
    "datafusion pyarrow numpy"
).split()


def write(results, questions, path):
    """Puts the tables between the markers of a file, or makes the file."""
    text = path.read_text() if path.exists() else f"{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{tables(results, questions)}\n{END}{after}")
    print(f"written: {path}")


def machine(binary):
    """What was measured on what."""
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    versions = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    for name, command in (("hyperslab", [binary, "--version"]), ("CDO", ["cdo", "--version"])):
        try:
            said = subprocess.run(command, check=False, capture_output=True, text=True)
            first = (said.stdout + said.stderr).splitlines()[0]
            versions[name] = next(word for word in first.split() if word[0].isdigit())
        except (OSError, StopIteration, IndexError):
            pass
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "processor": model.split(":")[1].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": round(memory),
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
        "load": round(os.getloadavg()[0], 1),
        "versions": versions,
    }


def tables(results, questions):
    m = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    lines = [
        f"{m['cores']} cores of {m['processor']}, {m['memory']} GB, {m['system']}, load {m['load']} at the start. {versions}.",
    ]
    for group in dict.fromkeys(question.group for question in questions):
        lines += ["", f"### {group}", "", "| question | data | hyperslab | peers | read, decode |", "|---|---|---|---|---|"]
        for question in (q for q in questions if q.group == group):
            for format, row in results["questions"].get(question.name, {}).items():
                lines.append(line(question, format, row))
    return "\n".join(lines + summary(results, questions)) + "\n"


def line(question, format, row):
    ours = row.get("hyperslab", {})
    base = ours["seconds"] if ours.get("status") == "ok" else None
    others = sorted(peers(row).items(), key=lambda item: (item[1]["status"] != "ok", item[1]["seconds"]))
    cells = "<br>".join(cell(name, record, base) for name, record in others)
    limit = row.get("limit")
    limit = f"{seconds(limit['read'])}, {seconds(limit['decode'])}" if limit else ""
    return f"| {question.title} | {format} | {cell('', ours, None) if ours else ''} | {cells} | {limit} |"


def cell(name, record, base):
    """One peer: warm (times ours), cold, CPU, memory; or what went wrong."""
    if record["status"] != "ok":
        text = record["text"].replace("|", "\\|").replace("<", "&lt;")
        return f"{name} {text if record['status'] == 'timeout' else record['status'] + ': ' + text}".strip()
    times = f" ({record['seconds'] / base:.2g}×)" if base else ""
    cold = f", cold {seconds(record['cold'])}" if record.get("cold") else ""
    return f"{name} **{seconds(record['seconds'])}**{times}{cold}, CPU {seconds(record['cpu'])}, {record['memory']:.0f} MB".strip()


def summary(results, questions):
    lines = [
        "",
        "### Distance",
        "",
        "In parentheses how many times hyperslab's time (below 1: faster than hyperslab). Parquet: the best engine on the copy.",
        "",
        "| question | data | hyperslab | best peer | Parquet | decode | read |",
        "|---|---|---|---|---|---|---|",
    ]
    ratios, behind, without = [], [], []
    for question in questions:
        rows = results["questions"].get(question.name, {})
        parquet = best(rows.get("tas.parquet", {}))
        for format, row in rows.items():
            ours = row.get("hyperslab")
            if not ours:
                continue
            name = f"{question.title}, {format}"
            if ours["status"] != "ok":
                without.append(f"{name} ({ours['status']}: {ours['text']})")
                continue
            base, peer, limit = ours["seconds"], best(row), row.get("limit", {})
            if peer:
                ratios.append(peer[1] / base)
                if ratios[-1] < 1:
                    behind.append(f"- {name}: {peer[0]} {seconds(peer[1])}, hyperslab {seconds(base)}")
            shown = [named(peer, base), named(parquet, base)]
            shown += [named(("", limit[what]), base) if what in limit else "" for what in ("decode", "read")]
            lines.append(f"| {question.title} | {format} | {seconds(base)} | {' | '.join(shown)} |")
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        lines += ["", f"Geometric mean of the best peer's time over hyperslab's, {len(ratios)} rows: **{mean:.2f}×**."]
    lines += ["", f"Not fastest in {len(behind)} rows{':' if behind else '.'}", "", *behind]
    return lines + [f"- no answer of hyperslab: {text}" for text in without]


def peers(row):
    return {name: record for name, record in row.items() if name not in ("hyperslab", "limit")}


def best(row):
    right = [(record["seconds"], name) for name, record in peers(row).items() if record["status"] == "ok"]
    return min(right)[::-1] if right else None


def named(pair, base):
    return f"{pair[0]} {seconds(pair[1])} ({pair[1] / base:.2g}×)".strip() if pair else ""


def seconds(value):
    """Three digits: 0.0123 s, 1.23 s, 123 s."""
    if value < 0.0001:
        return f"{value * 1e6:.0f} µs"
    return f"{value:.3g} s"
