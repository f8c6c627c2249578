"""ClickHouse's engine in a process of its own: a request, a line of JSON, on stdin; its answer, a line of JSON, on stdout.

A process of its own, since the engine takes 200 MB and some threads, and since a test kills it as a server is killed. `chdb`'s own
`__init__` opens and closes an engine to ask for its version, and an engine that was closed once in a process opens no Kafka
table any more ("Shutdown was called"). So the extension is loaded without it.
"""

import importlib.util
import json
import sys
from types import ModuleType
from typing import Any


def open_engine(address: str) -> Any:
    """A connection to the engine, whose data stand at the address: a folder, and what the server is configured with."""
    spec = importlib.util.find_spec("chdb")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = ModuleType("chdb")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["chdb"] = package
    from chdb import _chdb  # noqa: PLC0415  # after the package that must not run

    return _chdb.connect(address)


def main() -> None:
    """Answer until stdin ends."""
    engine = open_engine(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"data": engine.query(request["sql"], request["format"], params=request["params"]).bytes().decode()}
        except RuntimeError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
