"""Servers of inputs on this machine: XRootD, S3, and HTTP that can be made to fail."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from servers import STARTS, free_port, started

os.environ.setdefault("XRD_CONNECTIONWINDOW", "1")  # XRootD's client reads it once in a process


@contextmanager
def xrootd(user: str = "nobody") -> Iterator[tuple[str, Path]]:
    """Run Debian's XRootD server; yields the URL of a folder that it serves, and the folder.

    It refuses to run as root, who starts it as `user`. Skips the test where it is not installed.
    """
    program = shutil.which("xrootd")
    if program is None:
        pytest.skip("no xrootd on the PATH (Debian: xrootd-server): root:// can't be tested")
    pytest.importorskip("fsspec_xrootd", reason="the packages of root:// are not installed")
    with tempfile.TemporaryDirectory(prefix="xrootd-") as name:
        base = Path(name)
        base.chmod(0o755)
        data, own = base / "data", base / "own"
        data.mkdir()
        own.mkdir()
        as_user = []
        if os.geteuid() == 0:
            shutil.chown(own, user)
            as_user = ["setpriv", f"--reuid={user}", "--clear-groups"]
        for _ in range(STARTS):
            port = free_port()
            settings = base / "xrootd.cfg"
            settings.write_text(
                f"all.export {data}\nall.adminpath {own}\nall.pidpath {own}\n"
                f"xrd.port {port}\nxrd.network nodnr\n"
            )
            command = [*as_user, program, "-c", str(settings), "-I", "v4"]
            with started(command, base / "xrootd.log") as server:
                if listens(port, server):
                    yield f"root://127.0.0.1:{port}/{data}", data
                    return
        raise AssertionError(f"xrootd ended {STARTS} times: {(base / 'xrootd.log').read_text()}")


def listens(port: int, server: object) -> bool:
    """Wait until a port of this machine is listened on, or its server has ended."""
    while server.poll() is None:  # type: ignore[attr-defined]
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


QUIET = 15.0
"""Seconds without a request after which those that are held are answered, together or not.

Shorter than the patience of who asks: a request that is asked for again would count twice.
"""


@dataclass
class Served:
    """What an HTTP server does: `ranges` says whether it honours them.

    `fails(i)` says of the i-th request whether the server drops the connection in its midst.
    `together(start)` says how many requests must have waited at the same moment before one for the
    bytes from `start` on is answered, and `most` how many there were. Where no more come, all are
    answered.
    """

    url: str
    folder: Path
    ranges: bool = True
    fails: Callable[[int], bool] = lambda _: False
    together: Callable[[int], int] = lambda _: 1
    most: int = 0
    status: int | None = None
    sent: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def n_bytes(self) -> int:
        """How many bytes of files were sent."""
        return sum(self.sent.values())


@contextmanager
def http(folder: Path) -> Iterator[Served]:
    """Serve a folder by HTTP, with ranges; what it does can be changed while it runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            name = unquote(self.path.partition("?")[0]).lstrip("/")
            asked = self.headers.get("Range")
            with lock:
                served.requests.append((name, asked))
                number = len(served.requests)
            if served.status is not None:
                self.send_error(served.status)
                return
            path = folder / name
            if not path.is_file():
                self.send_error(404)
                return
            size = path.stat().st_size
            start, stop = 0, size
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked or "") if served.ranges else None
            if found:
                start, stop = int(found[1]), min(int(found[2]) + 1, size)
                if start >= size:
                    self.send_error(416)
                    return
            wait_for_others(number, start)
            self.send_response(206 if found else 200)
            self.send_header("Content-Length", str(stop - start))
            if found:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.end_headers()
            if served.fails(number):
                stop = start + (stop - start) // 2
                self.close_connection = True
            # Counted before it is sent: who has the bytes may look at once.
            with lock:
                served.sent[name] = served.sent.get(name, 0) + stop - start
            with path.open("rb") as file, contextlib.suppress(ConnectionError):
                file.seek(start)
                self.wfile.write(file.read(stop - start))

    lock, arrived = threading.Lock(), threading.Condition()
    waiting: set[int] = set()
    stopped = threading.Event()

    def wait_for_others(number: int, start: int) -> None:
        """Let a request wait until enough are there, or no more of them come."""
        with arrived:
            waiting.add(number)
            served.most = max(served.most, len(waiting))
            arrived.notify_all()
            while served.most < served.together(start) and not stopped.is_set():
                if not arrived.wait(QUIET):
                    stopped.set()
                    arrived.notify_all()
            waiting.discard(number)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        served = Served(f"http://127.0.0.1:{server.server_address[1]}", folder)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


S3_USER = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}


@contextmanager
def s3() -> Iterator[tuple[str, dict[str, str], Callable[[Path], None]]]:
    """Run a local S3 server.

    Yields the URL of a bucket, the environment that leads to it and what puts files into it.
    """
    pytest.importorskip("s3fs", reason="the packages of s3:// are not installed")
    server_module = pytest.importorskip("moto.server", reason="moto, an S3 server, is not there")
    import boto3

    with ExitStack() as stack:
        server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        stack.callback(server.stop)
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        environment |= S3_USER
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id=S3_USER["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=S3_USER["AWS_SECRET_ACCESS_KEY"],
        )
        bucket = f"ntuples-{uuid.uuid4().hex[:8]}"  # all servers of a process share their buckets
        client.create_bucket(Bucket=bucket)

        def put(path: Path) -> None:
            client.upload_file(str(path), bucket, f"v1/{path.name}")

        yield f"s3://{bucket}/v1", environment, put
        client.close()
