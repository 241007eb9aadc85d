"""Servers of a folder on this machine, each a process of its own: HTTP with ranges, and XRootD.

python -m benchmarks.servers FOLDER     # HTTP; prints its port
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


@contextmanager
def http(folder: Path) -> Iterator[str]:
    """Serve a folder by HTTP; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.servers", str(folder)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


@contextmanager
def xrootd(folder: Path) -> Iterator[str]:
    """Serve a folder, which anybody may read, by Debian's XRootD; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="xrootd-") as name:
        own = Path(name)
        as_user = []
        if os.geteuid() == 0:  # which it refuses to be
            shutil.chown(own, "nobody")
            as_user = ["setpriv", "--reuid=nobody", "--clear-groups"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = own / "xrootd.cfg"
        settings.write_text(
            f"all.export {folder}\nall.adminpath {own}\nall.pidpath {own}\n"
            f"xrd.port {port}\nxrd.network nodnr\n"
        )
        command = [*as_user, "xrootd", "-c", str(settings), "-I", "v4", "-l", str(own / "log")]
        with subprocess.Popen(command) as server:
            try:
                while server.poll() is None and not _listens(port):
                    time.sleep(0.05)
                if server.returncode is not None:
                    raise OSError(f"xrootd ended with status {server.returncode}")
                yield f"root://127.0.0.1:{port}/{folder}"
            finally:
                server.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def serve(folder: Path) -> None:
    """Serve ranges of the ROOT files that are in a folder now, each opened once.

    aiohttp's own server of files opens one anew for each range, which takes four times as long as
    the client, on the cores that both share here.
    """
    from aiohttp import web

    opened = {
        path.relative_to(folder).as_posix(): os.open(path, os.O_RDONLY)
        for path in folder.rglob("*.root")
    }

    async def part(request: web.Request) -> web.Response:
        file = opened.get(request.match_info["name"])
        if file is None:
            raise web.HTTPNotFound
        wanted = request.http_range
        content = os.pread(file, wanted.stop - wanted.start, wanted.start)
        last, size = wanted.start + len(content) - 1, os.fstat(file).st_size
        headers = {"Content-Range": f"bytes {wanted.start}-{last}/{size}"}
        return web.Response(status=206, body=content, headers=headers)

    app = web.Application()
    app.router.add_get("/{name:.*}", part)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        print(listening.getsockname()[1], flush=True)
        web.run_app(app, sock=listening, print=None, access_log=None)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
