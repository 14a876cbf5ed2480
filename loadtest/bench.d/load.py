"""The load: bench.d/client.c over HTTP/1.1, h2load over HTTP/2, and single requests that are looked at in full."""
import contextlib
import http.client
import json
import os
import shutil

import process
from process import Failure

HOST = "bench.test"
CONNECTIONS = 64
H2_CONNECTIONS = 16
H2_STREAMS = 10
H2_WARM_REQUESTS = 2000
CIPHER = "TLS_AES_128_GCM_SHA256"
ETAG = '"v1-%d"'  # of the origin's and the floor's documents, by size


def path_of(size, name):
    return f"/obj/{size}/{name}"


def document(size, name):
    """What the origin has at path_of(size, name)."""
    head, end = f'{{"name":"{name}","text":"', '"}'
    text = "what stands behind a weir is calm, " * (size // 35 + 1)
    return (head + text[:size - len(head) - len(end)] + end).encode()


def get(port, path, method="GET", fields=None):
    """One request on a connection of its own: status, fields, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        try:
            connection.request(method, path, headers={"Host": HOST, **(fields or {})})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        except (OSError, http.client.HTTPException) as e:
            raise Failure(f"{method} {path}: {e!r}") from None


class Load:
    def __init__(self, client, cores, directory):
        self._client, self._cores, self._directory = client, cores, directory

    def _client_argv(self, port, source, seconds=None, count=None, connections=CONNECTIONS, rate=None, method="GET",
                     fields=(), status=200, length=None, waits=False, idles=False):
        argv = [self._client, "-p", port, "-c", connections, *source, "-m", method, "-s", status]
        for option, value in (("-t", seconds), ("-n", count), ("-r", rate), ("-l", length)):
            if value is not None:
                argv += [option, value]
        for field in fields:
            argv += ["-H", field]
        argv += ["-w"] * waits + ["-i"] * idles
        return [str(word) for word in argv]

    def http1(self, port, source, **options):
        """source: ("-u", PATH), ("-f", FILE) or ("-q", PREFIX). What the client measured, as it printed it."""
        argv = self._client_argv(port, source, **options)
        limit = 600 if options.get("count") else options["seconds"] + 30
        return json.loads(process.run(argv, self._cores, limit, self._directory))

    def idle(self, port, path, connections):
        """A context in which so many clients, each answered once, stay connected."""
        argv = self._client_argv(port, ("-u", path), connections=connections, idles=True)
        return process.started(argv, self._cores, self._directory)

    def http2(self, url, seconds=None, count=None, connections=H2_CONNECTIONS, log=None):
        argv = [shutil.which("h2load"), "-t1", f"-c{connections}", f"-m{H2_STREAMS}", "-H", ":authority: " + HOST]
        argv += [f"-n{count}"] if count else ["-D", str(max(1, round(seconds)))]
        argv += [f"--log-file={log}"] if log else []
        out = process.run(argv + [url], self._cores, 600 if count else seconds * 3 + 30, self._directory)
        return self._h2load_result(out, url)

    @staticmethod
    def _h2load_result(out, url):
        lines = {}
        for line in out.splitlines():
            name, _, rest = line.partition(":")
            lines[name.strip()] = rest.replace(",", "").split()
        finished = next((line.split() for line in out.splitlines() if line.startswith("finished in")), None)
        if finished is None or "requests" not in lines:
            raise Failure("h2load said nothing: " + " ".join(out[-300:].split()))
        # requests: N total, N started, N done, N succeeded, N failed, N errored, N timeout
        done, succeeded = int(lines["requests"][4]), int(lines["requests"][6])
        good, others = int(lines["status codes"][0]), [int(n) for n in lines["status codes"][2::2]]
        if done == 0 or succeeded != done or good < done or any(others):
            raise Failure(f"h2load: {done} done, {succeeded} succeeded, {good} of them 2xx")
        if lines.get("Application protocol", ["h2"])[0] not in ("h2", "h2c"):
            raise Failure(f"not HTTP/2 but {lines['Application protocol'][0]}")
        if url.startswith("https") and lines.get("Cipher") != [CIPHER]:
            raise Failure(f"cipher {lines.get('Cipher')}, not {CIPHER} as everywhere else")
        return {"requests": done, "rps": float(finished[3])}

    def http2_latency(self, url, seconds):
        """Percentiles in us. A run of their own: the log that they come from slows h2load down."""
        log = os.path.join(self._directory, "h2load.log")
        self.http2(url, seconds=seconds, log=log)
        with open(log) as f:
            took = sorted(int(line.split("\t")[2]) for line in f)
        os.unlink(log)
        return {f"{name}_us": took[min(len(took) - 1, int(share * len(took)))]
                for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
