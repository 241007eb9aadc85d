"""Which servers the user's own commands read from: a skim of somebody else's can't name one.

A skim remembers where its ntuples are, and a prediction from it reads them again. It does so where
a preprocessing of this project read from that server, which its user had named.
"""

from __future__ import annotations

from collections.abc import Iterable

from utils.schema import PROJECT, Location, Url, servers_of, short_name
from utils.system.files import complete

SERVERS = PROJECT / "outputs" / "places" / "servers"
"""A file a server that a preprocessing of this project read from."""


def remember(inputs: Iterable[Location]) -> None:
    """Write down the servers of inputs that the user's own command names."""
    for server in servers_of(inputs):
        with complete(SERVERS / short_name(server)) as path:
            path.write_text(server, encoding="utf-8")


def is_known(url: Url) -> bool:
    """Tell whether a command of this project's user named the server of `url` before."""
    note = SERVERS / short_name(url.server)
    return note.is_file() and note.read_text(encoding="utf-8") == url.server
