"""Which commands a workflow's steps may be: those of klinestream, as the command line itself knows them."""

from collections.abc import Callable, Sequence
from typing import Any


def wrong_with(root: Any) -> Callable[[Sequence[str]], str]:
    """What is wrong with a step's words, as a function: `root` must have such a command. A workflow is none of them."""

    def wrong(argv: Sequence[str]) -> str:
        group, words = root, list(argv)
        while hasattr(group, "commands"):
            known = sorted(name for name in group.commands if group is not root or name != "workflow")
            if not words or words[0] not in known:
                if group is not root and group.invoke_without_command and (not words or words[0].startswith("-")):
                    return ""
                said = " ".join(argv[: len(argv) - len(words) + 1])
                return f"expected a command of klinestream, {', '.join(known)}; got {said!r}"
            group = group.commands[words.pop(0)]
        return ""

    return wrong
