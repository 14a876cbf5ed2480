"""The systems that are compared, and how each of them is set up. The reasons for what is not the default stand here and
in the templates beside this file."""
import os
import re
import shutil
import socket
import string
import subprocess

import process
from process import Failure

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")


def line_of(argv, pattern):
    """What a group matches in a program's output."""
    done = subprocess.run(argv, capture_output=True, text=True)
    found = re.search(pattern, done.stdout + done.stderr)
    return found.group(1) if found else "?"


class Place:
    """Where an instance of a system runs, and with what."""

    def __init__(self, directory, threads, store_mb, origin_port, keys):
        self.directory, self.threads, self.store_mb, self.origin_port, self.keys = directory, threads, store_mb, origin_port, keys
        self.port, self.h2c_port, self.tls_port = process.free_ports(3)
        os.mkdir(directory)
        os.chmod(directory, 0o755)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def fill_in(self, template, **more):
        """A template beside this file, with this place's values in it; the path of the result."""
        with open(os.path.join(HERE, template)) as f:
            text = string.Template(f.read()).substitute({**vars(self), **self.keys, **more})
        return self.write(template.removesuffix(".in"), text)


class System:
    name = program = package = None
    is_peer = True
    has_origin = True   # it fetches and stores
    h2c_apart = True    # HTTP/2 in the clear has a port of its own
    lacks = {}          # case: why it cannot take part

    def missing(self):
        """Why it cannot be measured here; None if it can."""
        return None if find(self.program) else f"there is no {self.program} (Debian's package {self.package})"

    def version(self):
        raise NotImplementedError

    def command(self, place):
        """Writes what it needs into its place; the command that runs it in the foreground."""
        raise NotImplementedError

    def h2c_port(self, place):
        return place.h2c_port if self.h2c_apart else place.port

    def file_store(self, place):
        """The directory in which it stores, on tmpfs: memory as well. None where there is none."""
        return None

    def stored_bytes(self, place):
        """Bytes that a stored response takes, where its memory is all taken at the start; else None."""
        return None


class Weir(System):
    name = "weir"
    is_peer = False
    h2c_apart = False
    program = os.path.abspath(os.environ.get("WEIR") or os.path.join(ROOT, "build", "release", "weir"))

    def missing(self):
        return None if os.access(self.program, os.X_OK) else f"there is no {self.program}: ./dev build makes it"

    def version(self):
        return line_of([self.program, "--version"], r"(\S+)\s*$")

    def command(self, place):
        return [self.program, "run", "-c", place.fill_in("weir.conf.in")]


class Floor(System):
    name = "floor"
    is_peer = has_origin = h2c_apart = False

    def __init__(self, program):
        self.program = program

    def missing(self):
        return None

    def version(self):
        return "libh2o " + line_of(["dpkg-query", "-W", "-f", "${Version}", "libh2o-evloop-dev"], r"(\S+)")

    def command(self, place):
        return [self.program, str(place.threads), str(place.port), str(place.tls_port), place.keys["certificate"],
                place.keys["key"]]


class Nginx(System):
    name = program = package = "nginx"

    def version(self):
        return line_of([find("nginx"), "-v"], r"nginx/(\S+)")

    def command(self, place):
        conf = place.fill_in("nginx.conf.in", files_max=process.files_max(), user="user root;" if os.getuid() == 0 else "",
                             reuseport=" reuseport" if place.threads > 1 else "")
        return [find("nginx"), "-p", place.directory, "-e", place.path("error.log"), "-c", conf]

    def file_store(self, place):
        return place.path("store")


class Varnish(System):
    name = package = "varnish"
    program = "varnishd"
    h2c_apart = False
    lacks = {"hit-1k-h2tls": "it has no TLS"}
    # Nobody reads its log in shared memory, whose writing costs it some 15 %: nothing but what cannot be masked goes there.
    silent = ("Debug ReqStart ReqMethod ReqURL ReqProtocol ReqUnset ReqHeader ReqAcct Begin End Timestamp RespProtocol RespStatus "
              "RespReason RespHeader RespUnset VCL_call VCL_return VCL_use Hit HitPass HitMiss SessOpen SessClose Length Link "
              "BereqMethod BereqURL BereqProtocol BereqHeader BereqUnset BerespProtocol BerespStatus BerespReason BerespHeader "
              "BerespUnset BackendOpen BackendClose BereqAcct Fetch_Body TTL Storage H2TxHdr H2TxBody H2RxHdr H2RxBody "
              "ObjProtocol ObjStatus ObjReason ObjHeader ObjUnset ExpKill Filters").split()

    def version(self):
        return line_of([find("varnishd"), "-V"], r"varnish-(\S+)")

    def command(self, place):
        parameters = {"thread_pools": place.threads, "thread_pool_min": 300, "thread_pool_max": 2000, "feature": "+http2",
                      "timeout_idle": 3600, "backend_idle_timeout": 3600, "vsl_mask": ",".join("-" + t for t in self.silent)}
        argv = [find("varnishd"), "-F", "-j", "none", "-n", place.path("work"), "-f", place.fill_in("varnish.vcl.in"),
                "-s", f"malloc,{place.store_mb}m", "-T", "none", "-a", f"127.0.0.1:{place.port},HTTP"]
        for name, value in parameters.items():
            argv += ["-p", f"{name}={value}"]
        return argv


class Haproxy(System):
    name = program = package = "haproxy"
    block_bytes = 1024 + 48  # of its store: the data, and the struct that leads them

    def version(self):
        return line_of([find("haproxy"), "-v"], r"version (\S+)")

    def command(self, place):
        return [find("haproxy"), "-db", "-f", place.fill_in("haproxy.cfg.in")]

    def stored_bytes(self, place):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(place.path("socket"))
            s.sendall(b"show cache\n")
            shown = b"".join(iter(lambda: s.recv(1 << 20), b""))
        blocks = [int(n) for n in re.findall(rb"\((\d+) blocks\)", shown)]
        if not blocks:
            raise Failure("haproxy shows an empty cache")
        return sum(blocks) / len(blocks) * self.block_bytes


class TrafficServer(System):
    name = "ats"
    program = "traffic_server"
    package = "trafficserver"

    def version(self):
        return line_of([find(self.program), "-V"], r"Traffic Server (\S+)")

    def command(self, place):
        self._write_runroot(place)
        records = place.fill_in("records.config.in", ram_bytes=place.store_mb << 20, key_directory=place.keys["key_directory"])
        os.rename(records, place.path("etc/records.config"))
        certificate, key = (os.path.basename(place.keys[name]) for name in ("certificate", "key"))
        place.write("etc/ssl_multicert.config", f"dest_ip=* ssl_cert_name={certificate} ssl_key_name={key}\n")
        place.write("etc/remap.config", f"map / http://127.0.0.1:{place.origin_port}/\n")
        place.write("etc/storage.config", f"{place.path('store')} {place.store_mb}M\n")
        place.write("etc/ip_allow.yaml", "ip_allow:\n  - { apply: in, ip_addrs: 0/0, action: allow, methods: ALL }\n")
        for name in ("cache", "hosting", "parent", "plugin", "socks", "splitdns", "volume"):
            place.write(f"etc/{name}.config", "")
        place.write("etc/sni.yaml", "sni: []\n")
        place.write("etc/logging.yaml", "logging: {}\n")
        return [find(self.program), "--run-root=" + place.path("runroot.yaml")]

    @staticmethod
    def _write_runroot(place):
        """Where it looks for everything: programs where Debian has them, all else in its place."""
        shown = subprocess.run([find("traffic_layout"), "info"], capture_output=True, text=True).stdout
        installed = dict(line.lower().split(": ", 1) for line in shown.splitlines() if ": " in line)
        layout = {"prefix": ".", "exec_prefix": ".", "sysconfdir": "etc", "datadir": "etc", "includedir": ".", "libdir": ".",
                  "localstatedir": "run", "runtimedir": "run", "logdir": "log", "cachedir": "store", "mandir": ".", "infodir": "."}
        lines = [f"{name}: {place.path(directory)}" for name, directory in layout.items()]
        lines += [f"{name}: {installed[name]}" for name in ("bindir", "sbindir", "libexecdir") if name in installed]
        for directory in ("etc", "run", "log", "store"):
            os.mkdir(place.path(directory))
        place.write("runroot.yaml", "\n".join(lines) + "\n")

    def file_store(self, place):
        return place.path("store")


PEERS = (Nginx, Varnish, Haproxy, TrafficServer)
NAMES = ["weir", *(peer.name for peer in PEERS), "floor"]


def make(name, floor_program):
    if name == "floor":
        return Floor(floor_program)
    return next(cls for cls in (Weir, *PEERS) if cls.name == name)()
