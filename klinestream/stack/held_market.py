"""Which market the topics of a state folder hold: one alone, since a stand-in's klines and an exchange's must never mix in one topic."""

from pathlib import Path

from klinestream.market.errors import StackError

STANDIN = "the stand-in"


def keep_to(note: Path, market: str) -> None:
    """Note that the folder holds `market`: `STANDIN`, or the exchange's REST address. Raises StackError if it holds another one.

    A folder without a note is taken as it is: it is new, or older than the notes.
    """
    try:
        held = note.read_text().strip() if note.exists() else ""
        if not held:
            note.write_text(f"{market}\n")
    except OSError as error:
        raise StackError(f"expected to write to {note}: {error}; give room or permission, or set stack.state_dir") from None
    if held and held != market:
        raise StackError(
            f"{note.parent} holds the market of {held}, which must not mix with {market}'s: start over with `klinestream up --fresh`, "
            f"or set stack.state_dir to another folder (if both are one exchange at two addresses, remove {note})"
        )
