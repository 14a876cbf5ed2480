"""Fixtures: origins, the program, certificates."""
import os
import subprocess
import sys
import types

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.setswitchinterval(0.001)  # origin and client share the process: neither may wait long for the other

import origin as origin_module  # noqa: E402
import redis_server  # noqa: E402
import weir as weir_module  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "serial: measures time, or needs the machine for itself; run without -n")
    if not os.access(weir_module.BINARY, os.X_OK):
        raise pytest.UsageError(f"no program at {weir_module.BINARY}: build it first, or set WEIR")


def pytest_collection_modifyitems(items):
    """Those that take long come first, so that none of them is waited for at the end."""
    long = {}
    for item in items:
        mark = item.get_closest_marker("timeout")
        long[item] = mark is not None
        seconds = mark.args[0] if mark else 60
        item.add_marker(pytest.mark.timeout(seconds * weir_module.SLOW), append=False)
    items.sort(key=lambda item: not long[item])


@pytest.fixture
def make_origin():
    made = []

    def make(**kw):
        made.append(origin_module.Origin(**kw))
        return made[-1]
    yield make
    for o in made:
        o.close()


@pytest.fixture
def origin(make_origin):
    return make_origin()


@pytest.fixture
def make_redis(tmp_path):
    """make_redis(options...): a server that runs; start=False: one that does not yet."""
    made = []

    def make(*options, start=True):
        directory = tmp_path / f"redis{len(made)}"
        directory.mkdir()
        made.append(redis_server.Redis(directory, *options))
        return made[-1].start() if start else made[-1]
    yield make
    for r in made:
        r.kill()


@pytest.fixture
def redis(make_redis):
    return make_redis()


@pytest.fixture
def start(tmp_path, make_origin):
    """start(origin, route={...}, ttl={...}, ...) starts the program with base_conf's configuration; start(conf=...) with
    that dict or text. It is stopped after the test, before the origins, and a crash or a sanitizer's report fails it."""
    started = []

    def begin(origin=None, conf=None, files=None, **parts):
        directory = tmp_path / f"weir{len(started)}"
        directory.mkdir()
        w = weir_module.Weir(directory, conf if conf is not None else weir_module.base_conf(origin, **parts), files)
        started.append(w)
        return w.start()
    yield begin
    faults = []
    for w in started:
        try:
            w.finish()
        except AssertionError as e:
            faults.append(e)
    if faults:
        raise faults[0]


def _openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


def _certificate(directory, ca, name, serial):
    base = str(directory / name)
    _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", base + ".key",
             "-out", base + ".csr", "-subj", f"/CN={name}")
    with open(base + ".ext", "w") as f:
        f.write(f"subjectAltName=DNS:{name}\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n")
    _openssl("x509", "-req", "-in", base + ".csr", "-CA", ca + ".crt", "-CAkey", ca + ".key", "-set_serial", str(serial),
             "-days", "30", "-extfile", base + ".ext", "-out", base + ".crt")
    return types.SimpleNamespace(name=name, certificate=base + ".crt", key=base + ".key", ca=ca + ".crt")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Certificates for api.test, other.test and renewed.test, of an authority of their own."""
    directory = tmp_path_factory.mktemp("certificates")
    ca = str(directory / "ca")
    _openssl("req", "-x509", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-keyout", ca + ".key", "-out", ca + ".crt", "-subj", "/CN=test authority")
    names = ("api.test", "other.test", "renewed.test")
    return {n: _certificate(directory, ca, n, i + 10) for i, n in enumerate(names)}
