"""What no reader can beat by much: getting the bytes of the chunks, and getting and decoding them, and nothing else.

Two numbers for the chunks that a part of the grid touches. `read`: preadv of their bytes into a reused buffer, neighbours at
once. `decode`: preadv of one chunk after the other into a reused buffer and decoding into a reused buffer. One process a
core, each with its share of the chunks, started and warmed up beforehand; the best of several passes, from the moment when
all start to the moment when the last ends. What is where in the files is found out beforehand.
"""

import multiprocessing
import os
import struct
import time
from collections import namedtuple
from itertools import product

import h5py
import numpy as np

from peer import CORES, location

Chunk = namedtuple("Chunk", "path offset size start shape number")
GATHER = 16 << 20


def limits(folder, format, question, grid, drop_cache, passes=5):
    """Seconds of `read`, `read_cold`, `decode`, the bytes, and who decoded."""
    chunks = []
    for table in question.tables:
        if table != "clim":
            path = location(folder, format, table)
            parts = grid.part(question.part)
            chunks += [c for c in chunks_of(path, table) if any(touches(c, part) for part in parts)]
    ranges = gathered(chunks)
    result = {"bytes": sum(c.size for c in chunks), "chunks": len(chunks)}
    result["read"] = timed(lambda share: share, ranges, passes)
    drop_cache(folder, question, format)
    result["read_cold"] = timed(lambda share: share, ranges, 1, warm=False)
    decoders = decoders_of(format)
    times = {name: timed(make, chunks, passes) for name, make in decoders.items()} or {"none": result["read"]}
    result["decoder"] = min(times, key=times.get)
    result["decode"] = times[result["decoder"]]
    return result


def touches(chunk, part):
    for start, length, at in zip(chunk.start, chunk.shape, part):
        if start >= (at.stop if at.stop is not None else start + 1) or start + length <= (at.start or 0):
            return False
    return True


def chunks_of(path, table):
    """Every chunk of the variable: where its bytes are and which cells it holds."""
    if path.suffix == ".nc":
        return hdf5_chunks(path, "data" if table == "data" else "tas")
    if path.suffix == ".b2d":
        return blosc2_chunks(path / "tas.b2nd")
    return zarr_chunks(path / "tas")


def hdf5_chunks(path, name):
    found = []
    with h5py.File(path) as f:
        shape = f[name].chunks
        f[name].id.chunk_iter(lambda c: found.append(Chunk(path, c.byte_offset, c.size, c.chunk_offset, shape, len(found))))
    return found


def zarr_chunks(path):
    import zarr

    array = zarr.open_array(path, mode="r")
    outer = array.shards or array.chunks
    inner = [range(0, o, c) for o, c in zip(outer, array.chunks)]
    for at in product(*(range(-(-n // o)) for n, o in zip(array.shape, outer))):
        file, start = path.joinpath("c", *map(str, at)), [i * o for i, o in zip(at, outer)]
        if array.shards is None:
            yield Chunk(file, 0, file.stat().st_size, start, outer, 0)
            continue
        offsets = list(product(*inner))
        with open(file, "rb") as f:
            f.seek(-(16 * len(offsets) + 4), os.SEEK_END)
            index = struct.iter_unpack("<QQ", f.read(16 * len(offsets)))
        for offset, (begin, size) in zip(offsets, index):
            yield Chunk(file, begin, size, [s + o for s, o in zip(start, offset)], array.chunks, 0)


def blosc2_chunks(path):
    """The chunks of a contiguous frame lie one after the other behind its header."""
    import blosc2

    blosc2.set_nthreads(1)  # no pool of threads, which would not live on in the processes that decode
    array = blosc2.open(str(path))
    with open(path, "rb") as f:
        offset = struct.unpack(">i", f.read(15)[11:])[0]
    grid = product(*(range(0, n, c) for n, c in zip(array.shape, array.chunks)))
    for number, start in enumerate(grid):
        size = len(array.schunk.get_chunk(number))
        yield Chunk(path, offset, size, start, array.chunks, number)
        offset += size


def gathered(chunks):
    """The ranges of bytes of the chunks, neighbours in one."""
    ranges = []
    for chunk in sorted(chunks, key=lambda c: (str(c.path), c.offset)):
        last = ranges[-1] if ranges else None
        if last and last.path == chunk.path and last.offset + last.size == chunk.offset and last.size < GATHER:
            ranges[-1] = last._replace(size=last.size + chunk.size)
        else:
            ranges.append(chunk)
    return ranges


def decoders_of(format):
    """For each candidate a function that makes a decoder from a share of the chunks."""
    if format.endswith(".b2d"):
        return {"python-blosc2": blosc2_decoder}
    if format.endswith(".zarr") and format != "plain.zarr":
        return {"Zstandard of numcodecs": zstd_decoder}
    if format in ("daily.nc", "other.nc"):
        return {
            "zlib-ng of imagecodecs, shuffle of numcodecs": lambda share: deflate_decoder(share, "zlibng_decode"),
            "libdeflate of imagecodecs, shuffle of numcodecs": lambda share: deflate_decoder(share, "deflate_decode"),
        }
    return {}


def deflate_decoder(share, function):
    import imagecodecs
    import numcodecs

    inflate, shuffle = getattr(imagecodecs, function), numcodecs.Shuffle(4)
    size = max((4 * int(np.prod(c.shape)) for c in share), default=0)
    shuffled, out = np.empty(size, "u1"), np.empty(size, "u1")

    def decode(chunk, data):
        length = 4 * int(np.prod(chunk.shape))
        inflate(data, out=shuffled[:length])
        shuffle.decode(shuffled[:length], out[:length])

    return decode


def zstd_decoder(share):
    import numcodecs

    zstd, out = numcodecs.Zstd(), np.empty(max((4 * int(np.prod(c.shape)) for c in share), default=0), "u1")
    return lambda chunk, data: zstd.decode(data, out[: 4 * int(np.prod(chunk.shape))])


def blosc2_decoder(share):
    """python-blosc2 takes the bytes of a chunk from the mapped file itself."""
    import blosc2

    arrays = {path: blosc2.open(str(path), mmap_mode="r") for path in {c.path for c in share}}
    out = np.empty(max((array.schunk.chunksize for array in arrays.values()), default=0), "u1")
    return lambda chunk, data: arrays[chunk.path].schunk.decompress_chunk(chunk.number, out)


def timed(make, chunks, passes, warm=True):
    """The best pass over the chunks, one process a core; `make` makes the decoder of a share, or gives it back: only read."""
    context = multiprocessing.get_context("fork")
    barrier, times = context.Barrier(CORES), context.Queue()
    shares = [[] for _ in range(CORES)]
    total, done = sum(c.size for c in chunks), 0
    for chunk in chunks:
        shares[min(CORES - 1, done * CORES // max(total, 1))].append(chunk)
        done += chunk.size
    children = [context.Process(target=work, args=(make, share, passes, warm, barrier, times)) for share in shares]
    for child in children:
        child.start()
    results = [times.get(timeout=120) for _ in range(CORES)]
    for child in children:
        child.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return min(results)


def work(make, share, passes, warm, barrier, times):
    try:
        times.put(best_pass(make(share), share, passes, warm, barrier))
    except BaseException as error:
        barrier.abort()
        times.put(error)
        raise


def best_pass(decode, share, passes, warm, barrier):
    buffer = np.zeros(max((c.size for c in share), default=0), "u1")
    best = float("inf")
    for _ in range(passes + warm):
        barrier.wait()
        start = time.perf_counter()
        one_pass(share, buffer, decode if callable(decode) else None)
        barrier.wait()
        best = min(best, time.perf_counter() - start)
    return best


def one_pass(share, buffer, decode):
    path = handle = None
    for chunk in share:
        if chunk.path != path:
            if handle is not None:
                os.close(handle)
            path, handle = chunk.path, os.open(chunk.path, os.O_RDONLY)
        data = buffer[: chunk.size]
        if not (decode and chunk.path.suffix == ".b2nd"):
            os.preadv(handle, [data], chunk.offset)
        if decode:
            decode(chunk, data)
    if handle is not None:
        os.close(handle)
