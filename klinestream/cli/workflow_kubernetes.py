"""placeholder"""


def kubernetes() -> None:
    """placeholder"""
