"""Jobs of which one kills its process; apart, because processes of the cluster import this and nothing heavy."""

import os


def square(n: int) -> int | str:
    if n == 3:
        os._exit(1)
    return n * n


def given_up(n: int, reason: str) -> int | str:
    return f"given up: {reason.partition(' of')[0]}"
