"""Content codings undone piece by piece, as clients that show what they have so far do: by the system's libraries."""
import ctypes
import functools
import zlib

ROOM = 1 << 16


@functools.cache
def _library(name):
    library = ctypes.CDLL(name)
    for function in ("BrotliDecoderCreateInstance", "ZSTD_createDStream"):
        if name.startswith("libbrotli") == function.startswith("Brotli"):
            getattr(library, function).restype = ctypes.c_void_p
    return library


class _ZstdBuffer(ctypes.Structure):
    _fields_ = [("p", ctypes.c_void_p), ("n", ctypes.c_size_t), ("at", ctypes.c_size_t)]


class Decoder:
    """add() gives what can be decoded by now; ended says whether the coding came to its end."""

    def __init__(self, coding):
        self.ended = coding is None
        self._add = {"gzip": self._gzip, "br": self._br, "zstd": self._zstd, None: bytes}[coding]
        if coding == "gzip":
            self._state = zlib.decompressobj(wbits=31)
        elif coding == "br":
            self._library = _library("libbrotlidec.so.1")
            self._state = ctypes.c_void_p(self._library.BrotliDecoderCreateInstance(None, None, None))
        elif coding == "zstd":
            self._library = _library("libzstd.so.1")
            self._library.ZSTD_decompressStream.restype = ctypes.c_size_t
            self._state = ctypes.c_void_p(self._library.ZSTD_createDStream())

    def add(self, data):
        return self._add(bytes(data))

    def close(self):
        if hasattr(self, "_library"):
            (self._library.BrotliDecoderDestroyInstance if "brotli" in self._library._name else self._library.ZSTD_freeDStream)(self._state)
            del self._library

    def _gzip(self, data):
        out = self._state.decompress(data)
        assert not self._state.unused_data
        self.ended = self._state.eof
        return out

    def _br(self, data):
        out, room = b"", ctypes.create_string_buffer(ROOM)
        source = ctypes.create_string_buffer(data, len(data))
        next_in, left = ctypes.c_void_p(ctypes.addressof(source)), ctypes.c_size_t(len(data))
        while True:
            next_out, free = ctypes.c_void_p(ctypes.addressof(room)), ctypes.c_size_t(ROOM)
            result = self._library.BrotliDecoderDecompressStream(
                self._state, ctypes.byref(left), ctypes.byref(next_in), ctypes.byref(free), ctypes.byref(next_out), None)
            out += room.raw[:ROOM - free.value]
            assert result != 0, "not brotli"
            self.ended = result == 1
            # It may want input and have output left all the same.
            if result != 3 and not self._library.BrotliDecoderHasMoreOutput(self._state):
                assert left.value == 0
                return out

    def _zstd(self, data):
        out, room = b"", ctypes.create_string_buffer(ROOM)
        source = ctypes.create_string_buffer(data, len(data))
        given = _ZstdBuffer(ctypes.addressof(source), len(data), 0)
        while True:
            taken = _ZstdBuffer(ctypes.addressof(room), ROOM, 0)
            left = self._library.ZSTD_decompressStream(self._state, ctypes.byref(taken), ctypes.byref(given))
            assert left < 1 << 63, "not zstd"
            out += room.raw[:taken.at]
            self.ended = left == 0
            if given.at == given.n and (self.ended or taken.at < ROOM):
                return out
