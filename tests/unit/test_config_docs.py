"""docs/operations.md tells of every configuration key what the code says."""

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from klinestream.runtime.config import PREFIX, Config

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->"


def shown(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        return "(environment only)"
    if isinstance(default, tuple):
        return ", ".join(f"`{item}`" for item in default) or "(none)"
    return f"`{default}`" if str(default) else "(none)"


def tables() -> str:
    """The tables as the page must have them: a section each, a key a line, from config.py."""
    lines = []
    for section, model in Config.model_fields.items():
        assert model.annotation is not None
        lines += [f"**[{section}]** {model.annotation.__doc__}", "", "| key | default | meaning |", "|---|---|---|"]
        fields: dict[str, FieldInfo] = model.annotation.model_fields  # type: ignore[attr-defined]  # a section is a model
        lines += [f"| `{key}` | {shown(field)} | {' '.join((field.description or '').split())} |" for key, field in fields.items()]
        lines.append("")
    return "\n".join(lines)


def test_every_key_is_documented() -> None:
    """The tables between the markers are those made from config.py; `python -m tests.unit.test_config_docs` makes them anew."""
    page = DOCS.read_text()
    assert PREFIX in page
    assert page.partition(BEGIN)[2].partition(END)[0] == tables()


def main() -> None:
    """Write the tables into the page."""
    before, _, rest = DOCS.read_text().partition(BEGIN)
    DOCS.write_text(f"{before}{BEGIN}{tables()}{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
