# SPDX-License-Identifier: Apache-2.0
"""Decompresses files as streams of bounded length, whatever they claim to hold."""
import hashlib
import os

from ...sandbox.errors import SandboxError
from .entries import refused

CHUNK = 1 << 18
#: Headers, padding and extended headers beside the content: what an archive may unpack to per
#: allowed entry.
OVERHEAD = 2048
#: xz -9 needs 65 MiB; a header may ask for 4 GiB.
XZ_MEMORY = 128 << 20


class RawFile:
    """Reads an open file in order, counts the bytes, and hashes them with `digest` of hashlib."""

    def __init__(self, fd, digest=None):
        self.fd, self.count = fd, 0
        self.hash = hashlib.new(digest) if digest else None

    def read(self, size):
        """Returns up to `size` bytes, b"" at the end."""
        data = os.read(self.fd, size)
        self.count += len(data)
        if self.hash:
            self.hash.update(data)
        return data


class Stream:
    """Yields the decompressed bytes of a file.

    raw: RawFile
    shown: the file's name, for messages
    limit: most decompressed bytes
    digest: name of hashlib, or None
    hash: of all decompressed bytes

    Raises SandboxError for data that is damaged, cut off, or longer than the limit.
    """

    def __init__(self, raw, shown, limit, digest=None):
        self.raw, self.shown, self.limit, self.total = raw, shown, limit, 0
        self.hash = hashlib.new(digest) if digest else None
        self.buffer, self.place = b"", 0
        head = raw.read(CHUNK)
        self.pieces = self._pieces(head)

    def _pieces(self, head):
        if head[:2] == b"\x1f\x8b":
            return self._unpack(head, _Gzip, head[:2])
        if head[:6] == b"\xfd7zXZ\0":
            return self._unpack(head, _xz, head[:6])
        if head[:4] == b"\x28\xb5\x2f\xfd":
            return self._unpack(head, _zstd, head[:4])
        if head[:3] == b"BZh":
            raise refused(self.shown, "is compressed with bzip2; gzip and xz are supported",
                          "unpack it with bunzip2 first")
        return self._plain(head)

    def _plain(self, data):
        while data:
            yield data
            data = self.raw.read(CHUNK)

    def _unpack(self, data, make, magic):
        try:
            decompressor = make()
            while True:
                out = decompressor.feed(data)
                data = b""
                if out:
                    yield out
                elif decompressor.eof:
                    data = decompressor.unused
                    while len(data) < 64:  # another member may follow, or padding with zeros
                        more = self.raw.read(CHUNK)
                        if not more:
                            break
                        data += more
                    while data and not data.strip(b"\0"):
                        data = self.raw.read(CHUNK)
                    if not data:
                        return
                    data = data.lstrip(b"\0")
                    if not data.startswith(magic):
                        raise refused(self.shown, "other data follows the compressed data")
                    decompressor = make()
                elif decompressor.hungry:
                    data = self.raw.read(CHUNK)
                    if not data:
                        raise refused(self.shown, "the compressed data is cut off")
        except (SandboxError, OSError):
            raise
        except Exception as error:  # zlib's, lzma's and zstd's errors have no common class
            raise refused(self.shown, "the compressed data is damaged: %s" % error)

    def read(self, size):
        """Returns `size` bytes, fewer only at the end."""
        have = len(self.buffer) - self.place
        if have >= size:
            self.place += size
            return self.buffer[self.place - size:self.place]
        parts, missing = [self.buffer[self.place:]], size - have
        self.buffer, self.place = b"", 0
        for piece in self.pieces:
            self.total += len(piece)
            if self.total > self.limit:
                raise refused(self.shown, "unpacks to more than the limits allow",
                              "--max-size and --max-files set the limits")
            if self.hash:
                self.hash.update(piece)
            if len(piece) >= missing:
                parts.append(piece[:missing])
                self.buffer, self.place = piece, missing
                break
            parts.append(piece)
            missing -= len(piece)
        return b"".join(parts)

    def skip(self, size):
        """Skips `size` bytes; returns how many there were."""
        left = size
        while left:
            data = self.read(min(left, CHUNK))
            if not data:
                break
            left -= len(data)
        return size - left

    def drain(self):
        """Reads to the end, so that the hash is of the whole file."""
        while self.read(CHUNK):
            pass


class _Gzip:
    def __init__(self):
        import zlib
        self.inner = zlib.decompressobj(31)

    def feed(self, data):
        return self.inner.decompress(data or self.inner.unconsumed_tail, CHUNK)

    eof = property(lambda self: self.inner.eof)
    unused = property(lambda self: self.inner.unused_data)
    hungry = property(lambda self: not self.inner.unconsumed_tail)


class _Inner:
    """Wraps lzma's and zstd's decompressors, which keep unused input."""

    def __init__(self, inner):
        self.inner = inner

    def feed(self, data):
        if self.inner.eof:
            return b""
        return self.inner.decompress(data, CHUNK)

    eof = property(lambda self: self.inner.eof)
    unused = property(lambda self: self.inner.unused_data)
    hungry = property(lambda self: self.inner.needs_input)



def _xz():
    import lzma
    return _Inner(lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY))


def _zstd():
    import importlib
    try:
        zstd = importlib.import_module("compression.zstd")
    except ImportError:
        raise refused("zstd", "Python reads it since 3.14", "unpack it with `zstd -d` first")
    return _Inner(zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 27}))
