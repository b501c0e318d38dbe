"""Processes remembered in files and tags, and whether they are still the same ones."""


def process_mark(pid: int) -> str:
    """A process by number and start time, since numbers are used again; the number alone if it is gone."""
    import psutil

    try:
        return f"{pid} {psutil.Process(pid).create_time():.0f}"
    except psutil.NoSuchProcess:
        return str(pid)


def is_alive(mark: str) -> bool:
    """Whether the process that ``process_mark`` described is still running."""
    import psutil

    pid, _, started = mark.partition(" ")
    try:
        return (
            bool(started)
            and pid.isdecimal()
            and process_mark(int(pid)) == mark
            and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False
