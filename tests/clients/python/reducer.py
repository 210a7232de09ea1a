"""Asks the reducer for reductions of chunks in an object store, and compares each with NumPy's.

    reducer.py SERVER STORE PORT
"""

import json
import random
import sys

import blosc2
import cbor2
import numcodecs
import numpy as np
import requests

SERVER, STORE = sys.argv[1:3]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64"]
OPERATIONS = ["count", "max", "min", "select", "sum"]
SHAPES = [(60,), (4, 15), (3, 4, 5), (2, 1, 3, 5)]
COMPRESSIONS = [None, "zlib", "gzip", "blosc2", "blosc", "zstd", "lz4"]

session = requests.Session()
session.auth = ("test", "test")
chosen = random.Random(20)
numbers = np.random.default_rng(20)


def values(dtype, shape, kind):
    """Numbers of a kind: small ones, those of the whole range, or floats with some that are none."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        if kind == "small":
            return numbers.integers(max(info.min, -2), 2, shape).astype(dtype)
        return numbers.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    array = (numbers.standard_normal(shape) * 10).round(1).astype(dtype)
    if kind == "strange":
        flat = array.reshape(-1)
        flat[chosen.randrange(flat.size)] = np.nan
        flat[chosen.randrange(flat.size)] = np.inf
    return array


def compressed(name, data, size):
    if name is None:
        return data
    if name == "blosc2":
        filters = [blosc2.Filter.SHUFFLE, blosc2.Filter.BITSHUFFLE, blosc2.Filter.NOFILTER]
        codecs = [blosc2.Codec.ZSTD, blosc2.Codec.LZ4, blosc2.Codec.BLOSCLZ, blosc2.Codec.ZLIB]
        return blosc2.compress2(data, typesize=size, codec=chosen.choice(codecs), filters=[chosen.choice(filters)])
    codec = {
        "zlib": numcodecs.Zlib(5), "gzip": numcodecs.GZip(5), "zstd": numcodecs.Zstd(3), "lz4": numcodecs.LZ4(),
        "blosc": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
    }[name]
    return bytes(codec.encode(data))


class Stored:
    """An array as it is in the store."""

    count = 0

    def __init__(self, dtype, shape, order="C", byte_order="little", compression=None, filters=(), kind="small"):
        self.array = values(dtype, shape, kind)
        self.dtype = np.dtype(dtype)
        there = self.array.astype(self.dtype.newbyteorder("<" if byte_order == "little" else ">"))
        data = there.tobytes(order)
        for size in filters:
            data = bytes(numcodecs.Shuffle(size).encode(data))
        data = compressed(compression, data, self.dtype.itemsize)
        self.offset = chosen.choice([0, 1, 117])
        Stored.count += 1
        self.key = f"reducer/chunk {Stored.count}.bin"
        put = session.put(f"{STORE}/bucket/{self.key}", data=b"x" * self.offset + data + b"yz")
        assert put.ok, put.text
        self.fields = {"dtype": dtype, "offset": self.offset, "size": len(data), "shape": list(shape), "order": order,
                       "byte_order": byte_order}
        if compression:
            self.fields["compression"] = {"id": compression}
        if filters:
            names = ["shuffle", "shuffle_simd"]
            self.fields["filters"] = [{"id": chosen.choice(names), "element_size": size} for size in filters]


def selection_of(shape):
    def one(length):
        return [chosen.randint(-length - 2, length + 2), chosen.randint(-length - 2, length + 2),
                chosen.choice([1, 1, 2, 3, -1, -2])]
    kind = chosen.randrange(4)
    if kind == 0:
        return None
    if kind == 1:
        return [one(length) for length in shape]
    return [[0, length, 1] if chosen.random() < 0.5 else [chosen.randrange(length), length, chosen.choice([1, 2])]
            for length in shape]


def axis_of(rank):
    kind = chosen.randrange(4)
    if kind == 0:
        return None
    if kind == 1:
        return chosen.randrange(rank)
    return sorted(chosen.sample(range(rank), chosen.randint(0, rank)))


def missing_of(array):
    """What is missing, and where."""
    if chosen.random() < 0.4:
        return None, np.zeros(array.shape, bool)
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array.reshape(-1)
    some = sorted({value.item() for value in chosen.choices(list(finite), k=3)})
    if chosen.random() < 0.1:
        return {"valid_min": some[-1]}, array < some[-1]
    kinds = {
        "missing_value": (some[0], np.isin(array, some[:1])),
        "missing_values": (some, np.isin(array, some)),
        "valid_min": (some[0], array < some[0]),
        "valid_max": (some[-1], array > some[-1]),
    }
    if some[0] < some[-1]:
        kinds["valid_range"] = ([some[0], some[-1]], (array < some[0]) | (array > some[-1]))
    name = chosen.choice(list(kinds))
    field, where = kinds[name]
    return {name: field}, where


def expected(operation, array, absent, axis, order):
    """Elements, counts, and whether the answer is a refusal."""
    axes = tuple(range(array.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    here = ~absent
    if operation == "select":
        return array, np.array([here.sum()]), False
    counts = here.sum(axis=axes, dtype=np.int64)
    if operation == "count":
        return counts, counts, False
    is_float = array.dtype.kind == "f"
    if operation == "sum":
        wide = array.astype(np.longdouble if is_float else object)
        with np.errstate(all="ignore"):
            sums = np.asarray(np.where(here, wide, 0).sum(axis=axes))
            if is_float:
                return sums.astype(array.dtype), counts, False
        info = np.iinfo(array.dtype)
        if any(not info.min <= value <= info.max for value in sums.reshape(-1)):
            return None, counts, True
        return sums.astype(array.dtype), counts, False
    first = {"min": np.inf, "max": -np.inf} if is_float else \
        {"min": np.iinfo(array.dtype).max, "max": np.iinfo(array.dtype).min}
    first = array.dtype.type(first[operation])
    reduce = np.minimum.reduce if operation == "min" else np.maximum.reduce
    with np.errstate(all="ignore"):
        return np.asarray(reduce(np.where(here, array, first), axis=axes, initial=first)), counts, False


def ask(version, operation, body):
    return session.post(f"{SERVER}/{version}/{operation}{chosen.choice(['', '/'])}", json=body)


def same(got, wanted, array, operation, case):
    assert got.dtype == wanted.dtype and got.shape == wanted.shape, (case, got, wanted)
    if operation == "sum" and got.dtype.kind == "f":
        # Rounded once to the type of the elements; single sums of doubles may lose a little.
        size = float(np.abs(array[np.isfinite(array)].astype("f8")).sum())
        close = np.isclose(got.astype("f8"), wanted.astype("f8"), rtol=float(np.finfo(got.dtype).eps),
                           atol=size * 1e-14, equal_nan=True)
        assert close.all(), (case, got, wanted)
    else:
        assert np.array_equal(got, wanted, equal_nan=got.dtype.kind == "f"), (case, got, wanted)


def check(stored, operation, axis, selection, missing, absent, as_bytes=(False, False)):
    order = stored.fields["order"]
    array, hidden = stored.array, absent
    fields = dict(stored.fields)
    if selection is not None:
        slices = tuple(slice(*triple) for triple in selection)
        array, hidden = array[slices], absent[slices]
        fields["selection"] = selection
    if axis is not None:
        fields["axis"] = axis
    if missing is not None:
        fields["missing"] = missing
    case = json.dumps([operation, stored.key, fields])
    wanted, counts, refused = expected(operation, array, hidden, axis, order)
    body = dict(fields, interface_type="s3", url=f"{STORE}/bucket//{stored.key}", option_disable_chunk_cache=True,
                option_shape_as_bytes=as_bytes[0], option_count_as_bytes=as_bytes[1])
    answer = ask("v2", operation, body)
    if refused:
        assert answer.status_code == 400, (case, answer.status_code)
        assert "out of the range of" in answer.json()["error"]["message"], answer.text
        return
    assert answer.status_code == 200, (case, answer.text)
    assert answer.headers["content-type"] == "application/cbor"
    result = cbor2.loads(answer.content)
    assert list(result) == ["bytes", "dtype", "shape", "shape_as_bytes", "count", "count_as_bytes", "byte_order"], result
    assert result["byte_order"] == sys.byteorder
    shape, count = result["shape"], result["count"]
    if as_bytes[0]:
        assert shape == []
        shape = np.frombuffer(result["shape_as_bytes"], "u8").tolist()
    if as_bytes[1]:
        assert count == []
        count = np.frombuffer(result["count_as_bytes"], "i8").tolist()
    memory = order if operation == "select" else "C"
    got = np.frombuffer(result["bytes"], result["dtype"]).reshape(shape, order=memory)
    same(got, wanted, array, operation, case)
    assert count == counts.reshape(-1).tolist(), (case, count, counts)
    if axis is not None:
        return
    # The same by the older version.
    body = dict(fields, source=STORE, bucket="bucket", object=f"/{stored.key}")
    answer = ask("v1", operation, body)
    assert answer.status_code == 200, (case, answer.text)
    assert answer.headers["content-type"] == "application/octet-stream"
    headers = {name: answer.headers[f"x-activestorage-{name}"] for name in ["dtype", "byte-order", "shape", "count"]}
    assert headers["byte-order"] == sys.byteorder
    got = np.frombuffer(answer.content, headers["dtype"]).reshape(json.loads(headers["shape"]), order=memory)
    same(got, wanted, array, operation, case)
    count = counts.reshape(-1).tolist()
    scalar = operation != "select" or array.shape == ()
    assert json.loads(headers["count"]) == (count[0] if scalar else count), (case, headers)


def every_type():
    asked = 0
    for dtype in INTEGERS + FLOATS:
        kinds = ["small", "large"] if dtype in INTEGERS else ["small", "strange"]
        for byte_order in ["little", "big"]:
            for order in ["C", "F"]:
                stored = Stored(dtype, (3, 4, 5), order, byte_order, kind=chosen.choice(kinds))
                for operation in OPERATIONS:
                    check(stored, operation, None, None, *missing_of(stored.array))
                    check(stored, operation, [1], [[0, 3, 2], [3, 0, -1], [1, 4, 1]], *missing_of(stored.array))
                    asked += 2
    return asked


def everything():
    asked = 0
    for number in range(150):
        dtype = chosen.choice(INTEGERS + FLOATS)
        size = np.dtype(dtype).itemsize
        shape = chosen.choice(SHAPES)
        stored = Stored(
            dtype, shape, chosen.choice("CF"), chosen.choice(["little", "big"]),
            COMPRESSIONS[number % len(COMPRESSIONS)], chosen.choice([(), (size,), (size,), (size, 2), (3,), (6, 2)]),
            chosen.choice(["small", "large", "strange"]),
        )
        for _ in range(8):
            operation = chosen.choice(OPERATIONS)
            as_bytes = (chosen.random() < 0.2, chosen.random() < 0.2)
            check(stored, operation, axis_of(len(shape)), selection_of(shape), *missing_of(stored.array), as_bytes)
            asked += 1
    return asked


def whole_objects():
    """Without a size, a shape, or both."""
    for name in [None, "zlib", "blosc2", "lz4"]:
        array = values("float32", (1000,), "small")
        data = compressed(name, array.tobytes(), 4)
        assert session.put(f"{STORE}/bucket/reducer/whole", data=b"head" + data).ok
        body = {"interface_type": "s3", "url": f"{STORE}/bucket/reducer/whole", "dtype": "float32", "offset": 4}
        if name:
            body["compression"] = {"id": name}
        for more in [{}, {"shape": [10, 100]}, {"size": len(data)}]:
            answer = ask("v2", "sum", body | more)
            assert answer.status_code == 200, answer.text
            result = cbor2.loads(answer.content)
            assert np.frombuffer(result["bytes"], "f4") == np.float32(array.astype("f8").sum()), (name, more)
            assert result["count"] == [1000]
        answer = ask("v2", "max", body | {"axis": 0, "byte_order": None, "filters": None})
        assert np.frombuffer(cbor2.loads(answer.content)["bytes"], "f4") == array.max()


def known_defects():
    """What Reductionist answers otherwise."""
    def result(array, operation, **more):
        assert session.put(f"{STORE}/bucket/reducer/known", data=array.tobytes()).ok
        body = {"interface_type": "s3", "url": f"{STORE}/bucket/reducer/known", "dtype": array.dtype.name}
        return ask("v2", operation, body | more)
    answer = result(np.full(4, 2**31 - 1, "i4"), "sum")
    assert answer.status_code == 400 and "8589934588" in answer.json()["error"]["message"], answer.text
    many = result(np.full(2_000_000, 1.1, "f4"), "sum")
    assert np.frombuffer(cbor2.loads(many.content)["bytes"], "f4") == np.float32(2_000_000 * float(np.float32(1.1)))
    for operation in ["min", "max"]:
        answer = cbor2.loads(result(np.array([1, np.nan, 3]), operation).content)
        assert np.isnan(np.frombuffer(answer["bytes"])).all() and answer["count"] == [3]
    answer = cbor2.loads(result(np.full(3, 7, "i2"), "min", missing={"missing_value": 7}).content)
    assert np.frombuffer(answer["bytes"], "i2") == 32767 and answer["count"] == [0]


def anonymous_and_http():
    """Without credentials, and from a web server, here the same store."""
    array = np.arange(12, dtype="i8")
    public = {"x-amz-acl": "public-read"}
    assert session.put(f"{STORE}/bucket/reducer/open", data=array.tobytes(), headers=public).ok
    fields = {"url": f"{STORE}/bucket/reducer/open", "dtype": "int64", "size": 96}
    local = fields["url"].replace("127.0.0.1", "localhost")
    for more in [{"interface_type": "s3"}, {"interface_type": "http"}, {"interface_type": "http", "url": local}]:
        answer = requests.post(f"{SERVER}/v2/sum/", json=fields | more)
        assert answer.status_code == 200, answer.text
        assert np.frombuffer(cbor2.loads(answer.content)["bytes"], "i8") == 66
    # What is not public needs credentials, which the server has, but not for others.
    assert session.put(f"{STORE}/bucket/reducer/closed", data=array.tobytes()).ok
    closed = fields | {"interface_type": "s3", "url": f"{STORE}/bucket/reducer/closed"}
    assert requests.post(f"{SERVER}/v2/sum/", json=closed).status_code == 401
    assert session.post(f"{SERVER}/v2/sum/", json=closed).status_code == 200


def metrics():
    text = requests.get(f"{SERVER}/metrics").text
    for name in ["incoming_requests{http_method=\"POST\",path=\"/v2/sum\"}",
                 "outgoing_response{status_code=\"200\",http_method=\"POST\",path=\"/v1/select\"}",
                 "response_time_count{status_code=\"200\",http_method=\"POST\",path=\"/v2/count\"}"]:
        lines = [line for line in text.splitlines() if line.startswith(name)]
        assert len(lines) == 1 and int(lines[0].split()[-1]) > 10, (name, lines)


ready = requests.get(f"{SERVER}/.well-known/reductionist-schema")
assert (ready.status_code, ready.text) == (200, "Hello, world!")
asked = every_type() + everything()
whole_objects()
known_defects()
anonymous_and_http()
metrics()
print(f"{asked} reductions: ok")
