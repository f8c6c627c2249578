"""Under which names a service without tokens answers. Pure."""

import re
from ipaddress import ip_address

_PORT = re.compile(r":[0-9]*$")


def is_local_name(host: str | None) -> bool:
    """Whether a name that a request came under can only be one of this machine or its own network: no stranger's.

    A page of a stranger's site can make a browser ask this machine under the site's name, whose address it changes after it was
    loaded (DNS rebinding). Then both are one origin to the browser, and the page could read what we answer.

    >>> is_local_name("localhost:8084"), is_local_name("127.0.0.1:8084"), is_local_name("[::1]:8084"), is_local_name("server")
    (True, True, True, True)
    >>> is_local_name("chart.example:8084")
    False
    """
    name = _PORT.sub("", host or "").rstrip(".")
    if not name or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        # No name of the public network is without a dot.
        return "." not in name
    return True
