"""What makes a release: `make release` runs `python -m scripts.release`.

clean tree ─► wheel, sdist (twice, equal) ─► licences ─► bill of materials ─► checksums ─► dist/ ─► the demo, from the wheel alone

Not shipped. docs/release.md tells it for people.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""


class ReleaseError(Exception):
    """Something that must not be released; the message says what was expected, what came, and what to do."""
