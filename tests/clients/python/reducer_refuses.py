"""Asks the reducer for what cannot be answered: each is refused by a status and a body, and the server answers on.

    reducer_refuses.py SERVER STORE PORT

A store that misbehaves is played on PORT.
"""

import concurrent.futures
import http.server
import json
import socket
import sys
import threading
import urllib.parse
import zlib

import cbor2
import numpy as np
import requests

SERVER, STORE, PORT = sys.argv[1:4]
ODD = f"http://127.0.0.1:{PORT}"
ARRAY = np.arange(24, dtype="i4").reshape(2, 3, 4)
GOOD = {"interface_type": "s3", "url": f"{STORE}/bucket/refuses/good", "dtype": "int32", "size": 96,
        "shape": [2, 3, 4]}

session = requests.Session()
session.auth = ("test", "test")


class Store(http.server.BaseHTTPRequestHandler):
    """What a path is called is what happens."""

    protocol_version = "HTTP/1.1"
    asked = []

    def do_GET(self):
        path = urllib.parse.urlparse(self.path).path
        Store.asked.append((path, self.headers.get("authorization"), self.headers.get("range")))
        name = path.rsplit("/", 1)[-1]
        errors = {"denied": (403, "AccessDenied"), "unknown-key": (403, "InvalidAccessKeyId"),
                  "signature": (403, "SignatureDoesNotMatch"), "who": (401, "Unauthorized"),
                  "gone": (404, "NoSuchKey"), "bad": (400, "InvalidArgument"), "broken": (500, "InternalError")}
        if name in errors:
            status, code = errors[name]
            return self.send(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), {})
        if name == "whole":
            return self.send(200, ARRAY.tobytes(), {})
        if name == "away":
            return self.send(302, b"", {"location": f"{STORE}/bucket/refuses/good"})
        if name == "hidden":
            return self.send(302, b"", {"location": f"http://127.0.0.1:{PORT}/bucket/private"})
        if name == "short":
            return self.send(206, ARRAY.tobytes()[:50], {"content-range": "bytes 0-95/96"})
        if name == "long":
            return self.send(206, ARRAY.tobytes() * 100, {"content-range": "bytes 0-95/96"})
        if name == "elsewhere":
            return self.send(206, ARRAY.tobytes(), {"content-range": "bytes 5-100/200"})
        if name == "huge":
            return self.send(200, b"", {"content-length": "100000000000"})
        if name == "closed":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        self.send(206, ARRAY.tobytes(), {"content-range": "bytes 0-95/96"})

    do_HEAD = do_GET

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            try:
                self.wfile.write(body)
            except OSError:
                pass

    def log_message(self, *_):
        pass


def answers_on():
    answer = session.post(f"{SERVER}/v2/sum", json=GOOD)
    assert answer.status_code == 200, answer.text
    assert np.frombuffer(cbor2.loads(answer.content)["bytes"], "i4") == 276


def is_refusal(answer, statuses, case):
    assert answer.status_code in statuses, (case, answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/json", case
    error = answer.json()["error"]
    assert error["message"], case
    assert set(error) <= {"message", "caused_by"} and error.get("caused_by") != [], case
    return error


def refused(case, statuses=(400,), **more):
    body = {name: value for name, value in (GOOD | more).items() if value != "absent"}
    error = is_refusal(session.post(f"{SERVER}/v2/sum", json=body), statuses, case)
    return json.dumps(error)


def fields():
    for name in ["interface_type", "url", "dtype"]:
        assert f"missing field `{name}`" in refused(name, **{name: "absent"})
    wrong = {
        "interface_type": ["ftp", "", 1, [], "S3"],
        "url": ["", "x", "s3://bucket/key", "file:///etc/passwd", "http://", "http://[::1", 7, f"{STORE}/bucket",
                f"{STORE}/bucket/", f"{STORE}/", f"{STORE}/other/key", f"{STORE}/bucket/../other/key",
                f"{STORE}/bucket/%2e%2e/other/key", f"{STORE}/bucket/a%2f..%2f..%2fother%2fkey",
                f"{STORE}2/bucket/key", "http://169.254.169.254/latest/meta-data", "http://127.0.0.1:22/bucket/key",
                STORE.replace("://", "://user:secret@") + "/bucket/key", f"{STORE}@evil.example/bucket/key",
                f"{STORE}/bucket/refuses/good?x=1", f"{STORE}/bucket/refuses/\n", "http://" + "a" * 100_000],
        "dtype": ["int", "complex64", "Int32", "<i4", "", None, 4],
        "byte_order": ["native", "<", 1],
        "offset": [-1, 1.5, "0", 2**64, 2**64 - 1, 96, 10**12],
        "size": [0, -1, 1.5, "96", 95, 97, 48, 192, 2**62, 2**64 - 1, 2**64],
        "shape": [[], [0], [2, 0, 12], [-24], [24.0], "24", 24, [25], [2**62, 4], [2**64 - 1], [2**32] * 3, [1] * 65,
                  [1] * 500_000, [[2, 3, 4]], [None]],
        "axis": [3, -1, 10**9, [0, 0], [1, 0], [0, 10**9], list(range(1000)), "0", 0.5, [None], [[0]], 2**64],
        "order": ["A", "c", "K", 1],
        "selection": [[], [[0, 1, 1]], [[0, 1, 1]] * 4, [[0, 1, 0]] * 3, [[0, 1]] * 3, [[0, 1, 1, 1]] * 3,
                      [[0, None, 1]] * 3, [[0, 2**63, 1]] * 3, [[0.5, 1, 1]] * 3, "x", [0, 1, 1], [[0, 1, 1]] * 100_000],
        "compression": ["zlib", {"id": "rar"}, {"id": "lzma"}, {}, {"id": 3}, []],
        "filters": [[{"id": "delta"}], [{"id": "shuffle"}], [{"id": "shuffle", "element_size": 0}],
                    [{"id": "shuffle", "element_size": -4}], [{"id": "shuffle", "element_size": 2**40}], "shuffle",
                    [{"id": "shuffle", "element_size": 4}] * 10_000, {"id": "shuffle", "element_size": 4}],
        "missing": [{}, {"missing_value": 1.5}, {"missing_value": "1"}, {"missing_value": 2**31}, {"missing_values": 1},
                    {"missing_values": list(range(10_000))}, {"valid_min": None}, {"valid_min": 0, "valid_max": 1},
                    {"valid_range": [1, 0]}, {"valid_range": [1, 1]}, {"valid_range": [1]}, {"nonsense": 1}, 5, [1]],
        "option_shape_as_bytes": ["true", 1],
        "bucket": ["bucket"], "source": [STORE], "colour": ["red"],
    }
    for name, values in wrong.items():
        for value in values:
            refused((name, str(value)[:100]), **{name: value})
    answers_on()


def bodies():
    post = lambda data, kind="application/json", op="sum": session.post(
        f"{SERVER}/v2/{op}", data=data, headers={"content-type": kind} if kind else {})
    for data in [b"", b"{", b"[]", b"null", b"1", b"\xff\xfe", b"{}", b"[" * 100_000, b'{"a":' * 100_000,
                 json.dumps(GOOD).encode()[:-1], json.dumps(GOOD).encode() + b"}",
                 b'{"dtype":"int32",' + json.dumps(GOOD).encode()[1:]]:
        is_refusal(post(data), [400], data[:50])
    is_refusal(post(b" " * 3_000_000), [413], "3 MB")
    for kind in [None, "text/plain", "application/cbor", "application/x-www-form-urlencoded"]:
        is_refusal(post(json.dumps(GOOD), kind), [400], kind)
    assert post(json.dumps(GOOD), "application/json; charset=utf-8").status_code == 200
    for operation in ["bogus", "mean", "SUM", "sum%2f"]:
        error = is_refusal(post(json.dumps(GOOD), op=operation), [404], operation)
        assert error["message"] == f"unsupported operation {urllib.parse.unquote(operation)}", error
    answer = session.get(f"{SERVER}/v2/sum")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    for path in ["/v3/sum", "/v2", "/v2/sum/x", "/sum"]:
        assert requests.post(f"{SERVER}{path}", json=GOOD).status_code == 404, path
    for header in ["Bearer x", "Basic", "Basic !!!", "Basic YQ==", "Digest x"]:
        answer = requests.post(f"{SERVER}/v2/sum", json=GOOD, headers={"authorization": header})
        is_refusal(answer, [401], header)
    # The older version has fields of its own.
    old = {name: value for name, value in GOOD.items() if name not in ["interface_type", "url"]}
    old |= {"source": STORE, "bucket": "bucket", "object": "/refuses/good"}
    ask = lambda **more: session.post(f"{SERVER}/v1/sum", json=old | more)
    assert ask().status_code == 200
    for more in [{"url": "x"}, {"axis": 0}, {"bucket": ""}, {"object": ""}, {"object": "../other"}, {"source": "x"},
                 {"bucket": "other"}, {"object": "a/../../../other"}, {"option_shape_as_bytes": True}]:
        is_refusal(ask(**more), [400], more)
    answers_on()


def data():
    noise = np.random.default_rng(1).bytes(96)
    for codec in ["zlib", "gzip", "blosc2", "blosc", "zstd", "lz4"]:
        for key, content in [("noise", noise), ("zeros", bytes(96)), ("ones", b"\xff" * 96)]:
            assert session.put(f"{STORE}/bucket/refuses/{key}", data=content).ok
            for shape in [[2, 3, 4], [2**20], None]:
                refused((codec, key, shape), compression={"id": codec}, shape=shape,
                        url=f"{STORE}/bucket/refuses/{key}")
    # It decodes to more or less than its shape has.
    squeezed = zlib.compress(bytes(2_000_000))
    assert session.put(f"{STORE}/bucket/refuses/squeezed", data=squeezed).ok
    body = {"url": f"{STORE}/bucket/refuses/squeezed", "size": len(squeezed), "compression": {"id": "zlib"}}
    for shape in [[24], [499_999], [500_001]]:
        assert "decompress" in refused(shape, shape=shape, **body)
    for cut in [1, len(squeezed) // 2, len(squeezed) - 1]:
        refused(cut, shape=[500_000], **(body | {"size": cut}))
    assert session.post(f"{SERVER}/v2/sum", json=GOOD | body | {"shape": [500_000]}).status_code == 200
    # More than all memory: decoded, and as counts of each element.
    error = refused("decoded", shape=[2**28], **body)
    assert "Insufficient memory to process request (" in error and "> 67108864)" in error, error
    assert "Insufficient memory" in refused("kept", shape=[500_000 * 4], axis=[], dtype="int8", **body)
    bomb = zlib.compress(bytes(200_000_000), 9)
    assert session.put(f"{STORE}/bucket/refuses/bomb", data=bomb).ok
    body = {"url": f"{STORE}/bucket/refuses/bomb", "size": len(bomb), "compression": {"id": "zlib"}, "shape": None}
    refused("bomb", **body)
    refused("bomb", **(body | {"size": None}))
    assert session.put(f"{STORE}/bucket/refuses/large", data=bytes(70_000_000)).ok
    for size in [None, 70_000_000]:
        assert "Insufficient memory" in refused(size, url=f"{STORE}/bucket/refuses/large", size=size, shape=None)
    answers_on()


def stores():
    for key, statuses in [("denied", [401]), ("unknown-key", [401]), ("signature", [401]), ("who", [401]),
                          ("gone", [400]), ("whole", [400, 500]), ("broken", [500]), ("bad", [500]), ("away", [500]),
                          ("hidden", [500]), ("short", [400]), ("long", [400]), ("elsewhere", [500]),
                          ("closed", [500])]:
        refused(key, statuses, url=f"{ODD}/bucket/{key}")
        # Of a web server, whatever it does is a wrong request.
        refused(key, [400], url=f"{ODD}/bucket/{key}", interface_type="http")
    refused("huge", [400], url=f"{ODD}/bucket/huge", size=None, shape=None, offset=0)
    refused("nothing there", [400], url=f"{STORE}/bucket/refuses/nothing")
    refused("redirected", [400], url=f"{ODD}/bucket/hidden", interface_type="http")
    assert not any(path == "/bucket/private" for path, _, _ in Store.asked), "a redirection was followed"
    Store.asked.clear()
    good = GOOD | {"url": f"{ODD}/bucket//deep/good"}
    answer = requests.post(f"{SERVER}/v2/sum", json=good, auth=("ann", "secret"))
    assert answer.status_code == 200, answer.text
    assert requests.post(f"{SERVER}/v2/sum", json=good).status_code == 200
    web = good | {"interface_type": "http", "url": f"{ODD}/bucket/deep/good?signed=1"}
    assert requests.post(f"{SERVER}/v2/sum", json=web, auth=("ann", "secret")).status_code == 200
    (_, signed, there), (path, nobody, _), (_, basic, _) = Store.asked
    assert path == "/bucket/deep/good" and there == "bytes=0-95"
    assert "Credential=ann/" in signed and nobody is None
    assert basic == "Basic YW5uOnNlY3JldA==", basic
    answers_on()


def many_at_once():
    """More than fits the memory waits; all are answered."""
    assert session.put(f"{STORE}/bucket/refuses/half", data=bytes(20_000_000)).ok
    body = GOOD | {"url": f"{STORE}/bucket/refuses/half", "size": 20_000_000, "shape": [5_000_000]}
    ask = lambda _: requests.post(f"{SERVER}/v2/count", json=body, auth=("test", "test")).status_code
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(16))) == {200}
    # Those who go away leave nothing behind.
    for _ in range(20):
        text = json.dumps(body).encode()
        host, port = SERVER.split("//")[1].split(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v2/sum HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(text)}"
            connection.sendall(head.encode() + b"\r\n\r\n" + text)
    assert ask(0) == 200
    answers_on()


assert session.put(GOOD["url"], data=ARRAY.tobytes()).ok
odd = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Store)
threading.Thread(target=odd.serve_forever, daemon=True).start()
answers_on()
fields()
bodies()
data()
stores()
many_at_once()
print("ok")
