"""Where an input is: a file of this machine (a Path), or one on a server (a Url).

Only inputs can be on servers. A Url never holds credentials: what a configuration says ends in
logs, skims and runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from utils.schema.basics import ConfigError, nearest, portable, project_path

SCHEMES = ("root", "http", "https", "s3")
"""The protocols that inputs are read by."""

_LISTED = ("root", "s3")
"""Those whose servers list their files, so that patterns can be matched."""

_URL = re.compile(r"([A-Za-z][\w+.-]*)://")


@dataclass(frozen=True, order=True)
class Url:
    """A file, folder or pattern on a server; `host` is a bucket's name for s3, with any port else.

    `path` starts with one slash, however many stand behind a root:// server's name.
    """

    scheme: str
    host: str
    path: str

    @classmethod
    def of(cls, text: str) -> Url:
        """Return the URL that a user wrote.

        Raises ConfigError, which does not repeat them, where it holds credentials, and where its
        protocol is not read, it names no server or leads upwards.
        """
        shown = without_secrets(text)
        refuse_secrets(text)
        scheme, _, rest = text.partition("://")
        if scheme not in SCHEMES:
            raise ConfigError(
                f"{shown}: files are not read by {scheme}://; {nearest(scheme, SCHEMES)}"
            )
        host, _, path = rest.partition("/")
        if not re.fullmatch(r"[\w.:\[\]-]+", host):
            raise ConfigError(f"{shown} names no {'bucket' if scheme == 's3' else 'server'}")
        if ".." in path.split("/"):
            raise ConfigError(f"{shown} leads upwards ('..'): write where it leads")
        if scheme not in _LISTED and set(path) & set("*[?#"):
            raise ConfigError(
                f"{shown}: a pattern can't be matched over {scheme}, which has no list of a "
                "server's files: name each file, or a text file that lists them "
                "(a sign *, ?, [ or # of a file's own name is written %2A, %3F, %5B, %23)"
            )
        return cls(scheme, host, "/" + path.lstrip("/"))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}{'/' if self.scheme == 'root' else ''}{self.path}"

    @property
    def server(self) -> str:
        """The server, or bucket, that is asked."""
        return f"{self.scheme}://{self.host}"

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.server, *self._path.parts[1:])

    @property
    def name(self) -> str:
        return unquote(self._path.name) if self.scheme.startswith("http") else self._path.name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> Url:
        return Url(self.scheme, self.host, str(self._path.parent))

    @property
    def is_pattern(self) -> bool:
        return bool(set(self.path) & set("*?["))

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.path)

    def __truediv__(self, name: str) -> Url:
        return Url.of(f"{str(self).rstrip('/')}/{name}")


Location = Path | Url
"""Where an input is."""


def is_url(text: object) -> bool:
    """Tell whether what a user wrote is a URL, of whatever protocol."""
    return isinstance(text, Url) or bool(_URL.match(str(text)))


def location(text: str | Location) -> Location:
    """Return where an input is; a relative path starts at the project folder."""
    if isinstance(text, Url):
        return text
    return Url.of(str(text)) if is_url(text) else project_path(text)


def given_location(text: str | Location) -> Location:
    """Return where an input is that was typed in a shell: a relative path starts there."""
    if isinstance(text, Url):
        return text
    return Url.of(str(text)) if is_url(text) else Path(text).absolute()


def joined(folder: str | Location, name: str) -> Location:
    """Return the input `name` in a folder; a URL or an absolute path stands for itself."""
    if is_url(name):
        return Url.of(name)
    base, path = location(folder), Path(name).expanduser()
    if isinstance(base, Path):
        return base / path
    return path if path.is_absolute() else base / name


def portable_location(place: Location) -> str:
    """Return an input relative to the project folder where it is inside, so that both can move."""
    return str(place) if isinstance(place, Url) else portable(place)


def normal(place: Location) -> Location:
    """Return a location without detours, as such that can be compared."""
    return place if isinstance(place, Url) else Path(os.path.normpath(place))


def is_within(place: Location, folder: Location) -> bool:
    """Tell whether a location is a folder or below it."""
    if isinstance(place, Url) or isinstance(folder, Url):
        return place.parts[: len(folder.parts)] == folder.parts
    return place.is_relative_to(folder)


_USER = re.compile(r"([A-Za-z][\w+.-]*://)[^/\s'\"]*@")
_QUERY = re.compile(r"([A-Za-z][\w+.-]*://[^\s'\"?]*)\?[^\s'\"?/]*=[^\s'\"]*")
_TOKEN = re.compile(r"(?i)\b(authz|access_token|token|signature|x-amz-[\w-]+)=[^\s&'\"]+")


def without_secrets(text: str) -> str:
    """Return a text whose URLs name neither user nor password, and have no query."""
    return _TOKEN.sub(r"\1=...", _QUERY.sub(r"\1?...", _USER.sub(r"\1...@", text)))


def refuse_secrets(*texts: str) -> None:
    """Raise ConfigError for a URL with a user, password or query (tokens, signatures)."""
    for text in texts:
        if _USER.search(text) or _QUERY.search(text):
            raise ConfigError(
                f"{without_secrets(text)} holds credentials or a query, which would end in logs, "
                "skims and runs: leave them out and give them as docs/remote.md says"
            )


def servers_of(files: Iterable[str | Location]) -> set[str]:
    """Return the servers that hold any of the files."""
    return {Url.of(str(file)).server for file in files if is_url(file)}
