"""Programs started, bound to cores, watched by the kernel's own counters, and stopped."""
import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
import time

STOP_S = 5
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """What must not be reported as a figure."""


class Cores:
    """The servers have the first core that this process may use, the load and the origin the last one. Servers with two
    threads have the first two, so on a machine with two cores they share one with the load."""

    def __init__(self):
        usable = sorted(os.sched_getaffinity(0))
        self.load = {usable[-1]}
        self._usable = usable

    def server(self, threads):
        return set(self._usable[:threads])

    def disjoint(self, threads):
        return not self.server(threads) & self.load


def _prepare_child(cores):
    def prepare():
        os.sched_setaffinity(0, cores)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)  # should this process be killed outright
    return prepare


def files_max():
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def free_ports(count):
    """Ports of 127.0.0.1 that nobody has at the moment, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def _threads(pid):
    with contextlib.suppress(OSError):
        return [int(tid) for tid in os.listdir(f"/proc/{pid}/task")]
    return []


def _children(pid):
    out = []
    for tid in _threads(pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{tid}/children") as f:
            out += map(int, f.read().split())
    return out


def _born(pid):
    """When a process began, which tells it from a later one with the same number; None if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as f:
        after_name = f.read().rsplit(")", 1)[1].split()
        return None if after_name[0] == "Z" else int(after_name[19])
    return None


def _cpu_ns(pid):
    """The process's CPU clock: user and system time of all its threads, those that have ended included, in nanoseconds.
    /proc/PID/stat has the same in ticks of 10 ms."""
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return 0
    return time.clock_gettime_ns(clock.value)


def _pss_bytes(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def busy_s(cores):
    """How long these cores have worked, for whomever, since the machine's start."""
    names, ticks = {f"cpu{core}" for core in cores}, 0
    with open("/proc/stat") as f:
        for line in f:
            words = line.split()
            if words[0] in names:
                user, nice, system, _, _, interrupt, soft_interrupt = map(int, words[1:8])
                ticks += user + nice + system + interrupt + soft_interrupt
    return ticks / os.sysconf("SC_CLK_TCK")


class Process:
    """A program that was started here, and whatever it has started since."""

    def __init__(self, name, argv, cores, directory):
        self.name, self.cores = name, cores
        self.log = os.path.join(directory, name + ".log")
        with open(self.log, "wb") as log:
            self._popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
                                           start_new_session=True, preexec_fn=_prepare_child(cores))
        self._seen = {self._popen.pid: _born(self._popen.pid)}

    def pids(self):
        """All of its processes that live."""
        todo = [pid for pid, born in self._seen.items() if born is not None and _born(pid) == born]
        alive = []
        while todo:
            pid = todo.pop()
            alive.append(pid)
            for child in _children(pid):
                if child not in self._seen:
                    self._seen[child] = _born(child)
                    todo.append(child)
        return alive

    def bind(self):
        """Some programs undo the affinity that they were started with."""
        for pid in self.pids():
            for tid in _threads(pid):
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(tid, self.cores)

    def check_alive(self):
        if self._popen.poll() is not None:
            raise Failure(f"{self.name} ended: {self.log_end()}")

    def cpu_ns(self):
        return sum(map(_cpu_ns, self.pids()))

    def pss_bytes(self):
        """What it has in memory; what several of its processes share counts once."""
        return sum(map(_pss_bytes, self.pids()))

    def files(self):
        """How many files and sockets it has open."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())

    def log_end(self):
        with open(self.log, "rb") as f:
            return " ".join(f.read()[-500:].decode(errors="replace").split())

    def stop(self):
        """Ends all of it, by process id."""
        self.pids()
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_S)
        self._popen.kill()
        self._popen.wait()
        until = time.monotonic() + STOP_S
        for pid, born in self._seen.items():
            while born is not None and _born(pid) == born:
                if time.monotonic() > until:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)


def run(argv, cores, timeout, directory):
    """A program to its end; its standard output."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, cwd=directory,
                              start_new_session=True, preexec_fn=_prepare_child(cores))
    except subprocess.TimeoutExpired:
        raise Failure(f"{os.path.basename(argv[0])} did not end within {timeout:.0f} s") from None
    if done.returncode != 0:
        raise Failure(f"{os.path.basename(argv[0])}: {' '.join((done.stderr or done.stdout)[-400:].split())}")
    return done.stdout


@contextlib.contextmanager
def started(argv, cores, directory):
    """A program that runs until its standard input ends; gives its first line."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          cwd=directory, start_new_session=True, preexec_fn=_prepare_child(cores)) as popen:
        try:
            line = popen.stdout.readline()
            if not line:
                raise Failure(f"{os.path.basename(argv[0])}: {popen.stderr.read()[-400:].strip()}")
            yield line
        finally:
            popen.kill()
