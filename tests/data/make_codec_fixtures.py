"""Writes tests/data/codec: encoded chunks made by the reference libraries, and a manifest.

Needs blosc2, google-crc32c, h5py, numcodecs, numpy, pyarrow and zarr. Every chunk is an entry of manifest.json:

    {"name": …, "file": …, "offset": …, "length": …, "pipeline": […], "skipped": …, "nbytes": …, "crc32c": …}

`file` holds the chunks of one family back to back; `nbytes` and `crc32c` are those of the decoded chunk.
"""

import gzip
import json
import pathlib
import struct
import tempfile
import zlib
from unittest import mock

import blosc2
import google_crc32c
import h5py
import numcodecs
import numpy as np
import pyarrow as pa
import zarr

FOLDER = pathlib.Path(__file__).parent / "codec"
SIZES = (1, 2, 3, 4, 8)
files, manifest = {}, []


def main():
    FOLDER.mkdir(exist_ok=True)
    blosc1()
    blosc2_filters()
    blosc2_layouts()
    blosc2_special_values()
    blosc2_unsupported()
    general()
    hdf5()
    zarr_v3()
    for family, content in files.items():
        (FOLDER / f"{family}.bin").write_bytes(content)
    lines = ",\n".join(json.dumps(entry) for entry in manifest)
    (FOLDER / "manifest.json").write_text(f"[\n{lines}\n]\n")


def add(family, name, pipeline, encoded, raw, skipped=0):
    """`raw` is None for a chunk that must be refused as unsupported."""
    if pipeline == ["Blosc"] and raw is not None and name != "never set":
        assert blosc2.decompress2(encoded, nthreads=1) == raw, name
    content = files.setdefault(family, bytearray())
    entry = dict(name=f"{family} {name}", file=f"{family}.bin", offset=len(content), length=len(encoded))
    entry.update(pipeline=pipeline, skipped=skipped)
    if raw is not None:
        entry.update(nbytes=len(raw), crc32c=google_crc32c.value(bytes(raw)))
    content += encoded
    manifest.append(entry)


def elements(count, size):
    """`count` elements of `size` bytes: slowly growing numbers, a constant stretch, some noise."""
    values = np.cumsum(np.arange(count, dtype="u8") * 2654435761 % 97 < 11) * 3 + 1000
    values[count // 3 : count // 2] = 77
    values[-count // 8 :] *= 1_000_003
    return values.astype("<u8").view("u1").reshape(count, 8)[:, :size].tobytes()


def blosc1():
    for codec in ("blosclz", "lz4", "lz4hc", "zlib", "zstd"):
        for shuffle in (0, 1, 2):
            for size in SIZES:
                # Blocks of 1024 bytes are split into streams where elements have up to 8 bytes.
                raw = elements(1400 // size + 5, size)
                encoder = numcodecs.Blosc(cname=codec, clevel=5, shuffle=shuffle, blocksize=1024, typesize=size)
                add("blosc1", f"{codec} shuffle {shuffle} size {size}", ["Blosc"], encoder.encode(raw), raw)
    raw = elements(200, 4)
    stored = numcodecs.Blosc(clevel=0, typesize=4).encode(raw)
    add("blosc1", "stored", ["Blosc"], stored, raw)
    raw = elements(1000, 4)[:-3]
    odd = numcodecs.Blosc(cname="lz4", clevel=9, shuffle=1, blocksize=1024, typesize=4).encode(raw)
    add("blosc1", "odd end", ["Blosc"], odd, raw)


def blosc2_chunk(raw, size, codec="ZSTD", filters=("SHUFFLE",), meta=None, level=5, **more):
    filters = [blosc2.Filter[name] for name in filters or ("NOFILTER",)]
    return blosc2.compress2(
        raw,
        typesize=size,
        codec=blosc2.Codec[codec],
        clevel=level,
        filters=filters,
        filters_meta=meta or [0] * len(filters),
        nthreads=1,
        **more,
    )


def blosc2_filters():
    pipelines = [
        (),
        ("SHUFFLE",),
        ("BITSHUFFLE",),
        ("DELTA",),
        ("DELTA", "SHUFFLE"),
        ("DELTA", "BITSHUFFLE"),
        ("SHUFFLE", "BITSHUFFLE"),
    ]
    for codec in ("BLOSCLZ", "LZ4", "LZ4HC", "ZLIB", "ZSTD"):
        for filters in pipelines:
            for size in SIZES:
                raw = elements(1100 // size + 5, size)
                encoded = blosc2_chunk(raw, size, codec, filters, blocksize=512 // size * size)
                add("blosc2", f"{codec} {'+'.join(filters)} size {size}", ["Blosc"], encoded, raw)


def blosc2_layouts():
    for mode in ("ALWAYS_SPLIT", "NEVER_SPLIT", "AUTO_SPLIT", "FORWARD_COMPAT_SPLIT"):
        raw = elements(300, 8)
        for codec in ("LZ4", "ZSTD"):
            encoded = blosc2_chunk(raw, 8, codec, blocksize=1024, splitmode=blosc2.SplitMode[mode])
            add("blosc2", f"{codec} {mode}", ["Blosc"], encoded, raw)
    for level in range(10):
        raw = elements(600, 4)
        add("blosc2", f"level {level}", ["Blosc"], blosc2_chunk(raw, 4, "BLOSCLZ", level=level), raw)
    for size in (5, 16, 17, 100, 255, 256, 300):
        raw = elements(40, 8).ljust(size * 7, b"\x07")[: size * 7]
        for filters in ("SHUFFLE",), ("BITSHUFFLE",):
            add("blosc2", f"size {size} {filters[0]}", ["Blosc"], blosc2_chunk(raw, size, "LZ4", filters), raw)
    raw = elements(500, 4)
    add("blosc2", "shuffle of other size", ["Blosc"], blosc2_chunk(raw, 4, "LZ4", meta=[8]), raw)
    odd = raw[:-3]
    add("blosc2", "odd end", ["Blosc"], blosc2_chunk(odd, 4, "LZ4", ("BITSHUFFLE",)), odd)
    encoded = blosc2_chunk(raw, 4, "LZ4", ("TRUNC_PREC", "SHUFFLE"), [10, 0])
    add("blosc2", "truncated precision", ["Blosc"], encoded, blosc2.decompress2(encoded))
    runs = bytes(1024) + b"\x05" * 1024 + b"\xff" * 1024 + bytes(range(256)) * 4
    add("blosc2", "runs", ["Blosc"], blosc2_chunk(runs, 4, "LZ4", blocksize=1024), runs)
    raw = np.sin(np.arange(6000) / 50).astype("<f4").tobytes()
    for codec in ("LZ4", "LZ4HC", "ZSTD"):
        encoded = blosc2_chunk(raw, 4, codec, use_dict=True, blocksize=4096)
        assert encoded[31] & 1 and blosc2.decompress2(encoded) == raw
        add("blosc2", f"dictionary {codec}", ["Blosc"], encoded, raw)


def blosc2_special_values():
    special = blosc2.SpecialValue
    for name, kind, size, value in (
        ("zeros", special.ZERO, 4, bytes(4)),
        ("never set", special.UNINIT, 4, bytes(4)),
        ("NaN of 4 bytes", special.NAN, 4, np.array(np.nan, "<f4").tobytes()),
        ("NaN of 8 bytes", special.NAN, 8, np.array(np.nan, "<f8").tobytes()),
    ):
        chunks = blosc2.SChunk(chunksize=1000 * size, cparams=dict(typesize=size))
        chunks.fill_special(1000, kind)
        add("blosc2", name, ["Blosc"], chunks.get_chunk(0), value * 1000)
    for dtype, value in (("<i2", 7), ("<f8", 2.5), ("S3", b"abc"), ("S300", b"abcd" * 75)):
        array = blosc2.full((1000,), value, dtype=dtype, chunks=(1000,), blocks=(333,))
        raw = np.full(1000, value, dtype).tobytes()
        repeated = array.schunk.get_chunk(0)
        count = struct.unpack("<i", repeated[4:8])[0] // np.dtype(dtype).itemsize
        add("blosc2", f"value {dtype}", ["Blosc"], repeated, np.full(count, value, dtype).tobytes())


def blosc2_unsupported():
    raw = elements(1000, 4)
    for filters, meta in (
        (("SHUFFLE", "BYTEDELTA"), [0, 4]),
        (("INT_TRUNC", "SHUFFLE"), [12, 0]),
        (("SHUFFLE", "DELTA"), [0, 0]),
    ):
        encoded = blosc2_chunk(raw, 4, "ZSTD", filters, meta)
        add("unsupported", "+".join(filters), ["Blosc"], encoded, None)
    values = np.arange(64 * 64, dtype="<f4").reshape(64, 64)
    zfp = dict(codec=blosc2.Codec.ZFP_RATE, codec_meta=25, filters=[blosc2.Filter.NOFILTER], filters_meta=[0])
    array = blosc2.asarray(values, chunks=(64, 64), blocks=(32, 32), cparams=zfp)
    add("unsupported", "zfp", ["Blosc"], array.schunk.get_chunk(0), None)


def general():
    raw = elements(700, 4)
    whole = zlib.compress(raw)
    add("general", "nothing", [], raw[:100], raw[:100])
    add("general", "zlib", ["Zlib"], whole, raw)
    add("general", "zlib of nothing", ["Zlib"], zlib.compress(b""), b"")
    add("general", "gzip", ["Gzip"], gzip.compress(raw, mtime=0), raw)
    parts = gzip.compress(raw[:800], mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(raw[800:], mtime=0)
    add("general", "gzip in members", ["Gzip"], parts + bytes(3), raw)
    add("general", "gzip twice the same", ["Gzip"], gzip.compress(raw, mtime=0) * 2, raw * 2)
    add("general", "zstd", ["Zstd"], numcodecs.Zstd(level=3).encode(raw), raw)
    add("general", "zstd with checksum", ["Zstd"], numcodecs.Zstd(level=3, checksum=True).encode(raw), raw)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    unsized = sink.getvalue().to_pybytes()
    add("general", "zstd without size", ["Zstd"], unsized, raw)
    add("general", "zstd in frames", ["Zstd"], numcodecs.Zstd().encode(raw[:999]) + unsized, raw[:999] + raw)
    add("general", "lz4", ["Lz4"], numcodecs.LZ4().encode(raw), raw)
    for size in (2, 3, 4, 8):
        odd = raw[:2797]
        shuffled = bytes(numcodecs.Shuffle(size).encode(np.frombuffer(odd[: len(odd) // size * size], "u1")))
        add("general", f"shuffle {size}", [{"Shuffle": size}], shuffled + odd[len(shuffled) :], odd)
    for size in (2, 4, 8):
        values = np.frombuffer(raw, f"<u{size}")
        swapped = values.astype(f">u{size}").tobytes()
        add("general", f"byteswap {size}", [{"ByteSwap": size}], swapped, raw)
        both = zlib.compress(bytes(numcodecs.Shuffle(size).encode(np.frombuffer(swapped, "u1"))))
        add("general", f"byteswap, shuffle {size}, zlib", [{"ByteSwap": size}, {"Shuffle": size}, "Zlib"], both, raw)
    for length in (0, 1, 2799, 2800):
        data = np.frombuffer(raw[:length], "u1")
        if length:
            checked = bytes(numcodecs.Fletcher32().encode(data))
            add("general", f"fletcher32 of {length}", ["Fletcher32"], checked, raw[:length])
        checked = bytes(numcodecs.CRC32C(location="end").encode(data))
        add("general", f"crc32c of {length}", ["Crc32c"], checked, raw[:length])
    twice = numcodecs.Zstd().encode(numcodecs.Blosc(cname="lz4").encode(raw))
    add("general", "blosc in zstd", ["Blosc", "Zstd"], twice, raw)
    inner = gzip.compress(numcodecs.Blosc(cname="lz4").encode(bytes(100_000)), mtime=0)
    add("general", "blosc in gzip", ["Blosc", "Gzip"], inner, bytes(100_000))


def hdf5():
    values = np.frombuffer(elements(500, 4), "<i4")
    everything = dict(shuffle=True, compression="gzip", fletcher32=True)
    for name, pipeline, options in (
        ("shuffle, deflate, fletcher32", [{"Shuffle": 4}, "Zlib", "Fletcher32"], everything),
        ("deflate", ["Zlib"], dict(compression="gzip")),
        ("fletcher32", ["Fletcher32"], dict(fletcher32=True)),
    ):
        with tempfile.TemporaryDirectory() as folder, h5py.File(f"{folder}/x.h5", "w") as file:
            data = file.create_dataset("x", data=values, chunks=values.shape, **options)
            skipped, encoded = data.id.read_direct_chunk((0,))
            add("hdf5", name, pipeline, encoded, values.tobytes(), skipped)
            odd = np.frombuffer(values.tobytes()[:-1], "u1")
            data = file.create_dataset("odd", data=odd, chunks=odd.shape, **(options | dict(shuffle=False)))
            skipped, encoded = data.id.read_direct_chunk((0,))
            steps = [step for step in pipeline if step != {"Shuffle": 4}]
            add("hdf5", f"{name} of an odd length", steps, encoded, odd.tobytes(), skipped)
    with tempfile.TemporaryDirectory() as folder, h5py.File(f"{folder}/x.h5", "w") as file:
        data = file.create_dataset("x", (500,), "<i4", chunks=(500,), shuffle=True, compression="gzip")
        data.id.write_direct_chunk((0,), values.tobytes(), filter_mask=3)
        file.flush()
        _, encoded = data.id.read_direct_chunk((0,))
        skipped = data.id.get_chunk_info(0).filter_mask
        assert skipped == 3
        add("hdf5", "every filter skipped", [{"Shuffle": 4}, "Zlib"], encoded, values.tobytes(), skipped)


def zarr_v3():
    values = np.frombuffer(elements(500, 4), "<i4")
    codecs = zarr.codecs
    for name, pipeline, steps in (
        ("blosc", ["Blosc"], [codecs.BloscCodec(cname="zstd", typesize=4, shuffle="bitshuffle")]),
        ("gzip, crc32c", ["Gzip", "Crc32c"], [codecs.GzipCodec(), codecs.Crc32cCodec()]),
        ("zstd", ["Zstd"], [codecs.ZstdCodec()]),
    ):
        store = {}
        layout = dict(shape=values.shape, chunks=values.shape, dtype="<i4", compressors=steps)
        array = zarr.create_array(zarr.storage.MemoryStore(store), **layout)
        with mock.patch("time.time", return_value=0):  # it would be stored in the gzip header
            array[:] = values
        encoded = next(value for key, value in store.items() if key.endswith("c/0")).to_bytes()
        add("zarr", name, pipeline, encoded, values.tobytes())


if __name__ == "__main__":
    main()
