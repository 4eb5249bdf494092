"""measure.py - memory of processes, read from /proc by an onlooker.

Demo, tests and benchmarks measure with this and never with the numbers that
Vacate prints about itself.
"""
import os
import time

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PATIENCE_S = 120    # of waits that only guard against hanging


class Gone(Exception):
    """The process is no longer there."""


def smaps_rollup(pid):
    """The fields of /proc/PID/smaps_rollup in bytes; Gone when it ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            lines = file.read().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"process {pid} is gone") from None
    if not lines:
        raise Gone(f"process {pid} is gone")
    return {key: int(value.split()[0]) * 1024
            for key, value in (line.split(":") for line in lines)}


def uss(pid):
    """Private memory: what would come back if the process ended now."""
    fields = smaps_rollup(pid)
    return (fields["Private_Clean"] + fields["Private_Dirty"] +
            fields.get("Private_Hugetlb", 0))


def pss_anon(pid):
    """The process's share of memory that is no file's."""
    return smaps_rollup(pid)["Pss_Anon"]


def rss(pid):
    """Resident bytes by /proc/PID/statm: quick, counts shared pages too."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        raise Gone(f"process {pid} is gone") from None


def stat(pid):
    """(state, parent's pid) of a process, None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1])


def children(pid):
    """Pids whose parent is pid, zombies too."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            about = stat(int(name))
            if about and about[1] == pid:
                found.append(int(name))
    return sorted(found)


def alive(pid):
    """There is such a process and it is not a zombie."""
    about = stat(pid)
    return about is not None and about[0] != "Z"


def open_files(pid):
    """What a process has open, by descriptor."""
    out = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                out[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                pass    # closed in between
    except OSError:
        raise Gone(f"process {pid} is gone") from None
    return out


def patience(timeout_s):
    """A limit that only guards against hanging: longer where a sanitizer makes
    everything slow (VACATE_TEST_PATIENCE, a factor)."""
    return timeout_s * float(os.environ.get("VACATE_TEST_PATIENCE", "1"))


def wait_until(condition, what, timeout_s=60):
    """Polls until condition() is true and returns its value. The limit only guards
    against hanging."""
    timeout_s = patience(timeout_s)
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.005)


def machine():
    """One line on this machine: processor, cores we may use, memory, kernel."""
    model, total = "unknown processor", 0
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) * 1024
    return (f"{model}, {len(os.sched_getaffinity(0))} cores, {total / 2**30:.0f} GiB, "
            f"Linux {os.uname().release}")
