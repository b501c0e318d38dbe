"""Servers of this machine are asked directly, whatever proxy the environment names for all others."""

import os

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def bypass_proxies_for_loopback() -> None:
    """Add the loopback addresses to ``NO_PROXY`` and ``no_proxy``, for this process and its children.

    Both spellings get what either says: libraries differ in which one they read.
    """
    written = f"{os.environ.get('NO_PROXY', '')},{os.environ.get('no_proxy', '')}".split(",")
    names = list(dict.fromkeys(name.strip() for name in (*written, *_LOOPBACK) if name.strip()))
    if "*" not in names:  # no proxy for anything, which only stands alone
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(names)
