"""What every peer is: whether it is installed, what it can read and express, and where the datasets are."""

import importlib.util
import os

import numpy as np

from grid import Grid
from questions import wrap

CORES = len(os.sched_getaffinity(0))


def location(folder, format, table):
    """Where a table of a question is: the format names that of tas, the others have its extension."""
    if table in ("tas", "data", "sparse"):
        return folder / format
    return folder / f"{table}.{format.rsplit('.')[-1]}"


class Peer:
    """`load` imports what it needs; `answer` opens the files and answers. A program has `command` and `parse` instead."""

    package = None
    extensions = ()

    def __init__(self, folder):
        self.folder = folder
        self.grid = Grid(folder.name == "small")

    @classmethod
    def installed(cls):
        return importlib.util.find_spec(cls.package) is not None

    def can(self, question, format):
        return format.rsplit(".")[-1] in self.extensions and self.expression(question) is not None

    def paths(self, question, format):
        return {table: str(location(self.folder, format, table)) for table in question.tables}

    def evaluate(self, expression, values):
        return eval(expression, {"g": self.grid, "np": np, "wrap": wrap, **values})


def values_of(rows):
    """The numbers of an answer: all of one row, the last column of several."""
    if not isinstance(rows, list):
        rows = list(zip(*(column.to_pylist() for column in rows.columns)))
    return [float(value) for value in (rows[0] if len(rows) == 1 else [row[-1] for row in rows])]
