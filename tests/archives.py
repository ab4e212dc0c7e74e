# SPDX-License-Identifier: Apache-2.0
"""Archives and image layouts made byte by byte, so that nothing corrects what is wrong with them on purpose."""
import gzip
import hashlib
import json
import os


def octal(value, width):
    return b"%0*o\0" % (width - 1, value)


def header(name, kind=b"0", size=0, mode=0o644, target=b"", mtime=1000, magic=b"ustar\x0000", prefix=b"", raw_size=None,
           checksum=None):
    """One 512-byte header.  Everything may be wrong."""
    head = name[:100].ljust(100, b"\0") + octal(mode, 8) + octal(0, 8) + octal(0, 8)
    head += (octal(size, 12) if raw_size is None else raw_size) + (mtime if isinstance(mtime, bytes) else octal(mtime, 12))
    head += b" " * 8 + kind + target[:100].ljust(100, b"\0") + magic + b"root".ljust(32, b"\0") + b"root".ljust(32, b"\0")
    head += octal(1, 8) + octal(3, 8) + prefix.ljust(155, b"\0")
    head = head.ljust(512, b"\0")
    total = sum(head) if checksum is None else checksum
    return head[:148] + b"%06o\0 " % total + head[156:]


def padded(data):
    return data + b"\0" * (-len(data) % 512)


def file(name, data=b"data", **more):
    return header(name, size=len(data), **more) + padded(data)


def directory(name, mode=0o755, **more):
    return header(name, b"5", mode=mode, **more)


def symlink(name, target, **more):
    return header(name, b"2", target=target, mode=0o777, **more)


def hardlink(name, target, **more):
    return header(name, b"1", target=target, **more)


def record(key, value):
    """One record of a pax header; its length counts itself."""
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(records, kind=b"x"):
    """records: bytes, or pairs."""
    data = records if isinstance(records, bytes) else b"".join(record(*pair) for pair in records)
    return header(b"PaxHeader", kind, size=len(data)) + padded(data)


def long_name(name, kind=b"L"):
    return header(b"././@LongLink", kind, size=len(name) + 1) + padded(name + b"\0")


def archive(*parts, end=True):
    return b"".join(parts) + (b"\0" * 1024 if end else b"")


class Layout:
    """An OCI image layout in a directory; what must be right is, unless a test changes it."""

    def __init__(self, path, layers, pack=gzip.compress):
        self.path = path
        os.makedirs(os.path.join(path, "blobs", "sha256"))
        self.layers = []
        for data in layers:
            packed = pack(data) if pack else data
            self.layers.append(dict(self.blob(packed), mediaType="application/vnd.oci.image.layer.v1.tar+gzip"))
        self.config = self.blob(json.dumps({"architecture": "any", "os": "linux", "rootfs": {
            "type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]}}).encode())
        self.write()

    def blob(self, data):
        digest = hashlib.sha256(data).hexdigest()
        with open(self.place(digest), "wb") as stream:
            stream.write(data)
        return {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + digest, "size": len(data)}

    def place(self, digest):
        return os.path.join(self.path, "blobs", "sha256", digest.split(":")[-1])

    def write(self, manifests=None, version="1.0.0"):
        """The manifest, the index and the marker."""
        manifest = self.blob(json.dumps({"schemaVersion": 2, "config": self.config, "layers": self.layers}).encode())
        manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
        self.manifest = manifest
        with open(os.path.join(self.path, "index.json"), "w") as stream:
            json.dump({"schemaVersion": 2, "manifests": [manifest] if manifests is None else manifests}, stream)
        with open(os.path.join(self.path, "oci-layout"), "w") as stream:
            json.dump({"imageLayoutVersion": version}, stream)
