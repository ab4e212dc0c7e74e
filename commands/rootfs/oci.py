# SPDX-License-Identifier: Apache-2.0
"""Reads an OCI image layout as one stream of entries per layer.

OCI image-spec 1.1: image-layout.md, image-index.md, manifest.md, config.md, layer.md. Every blob is
named by its digest, and counts only if that is right. JSON is hashed before it is parsed. A layer
is hashed while it is read, compressed and unpacked, before the tree gets its name.
"""
import hashlib
import json
import os
import stat

from ...sandbox.errors import show, usage
from ...syscalls import files
from . import tar
from .entries import Entry, refused
from .streams import CHUNK, OVERHEAD, RawFile, Stream

MOST_JSON, MOST_LAYERS, DEEPEST = 8 << 20, 512, 4
#: Limits of all indexes of a layout together, as one may list another many times.
MOST_LISTED, MOST_JSON_IN_ALL = 4096, 32 << 20
DIGESTS = {"sha256": 64, "sha512": 128}
INDEXES = ("application/vnd.oci.image.index.v1+json",
           "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json",
             "application/vnd.docker.distribution.manifest.v2+json")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
NAME = "org.opencontainers.image.ref.name"
OPAQUE, WHITEOUT = b".wh..wh..opq", b".wh."


class Layout:
    """Is an image layout.

    source: Source of its directory
    path: bytes, for messages
    """

    def __init__(self, source, path):
        self.path, self.shown = path, show(path)
        self.listed = self.parsed = 0
        self.fd = os.dup(source.fd)

    def close(self):
        """Closes the descriptor."""
        os.close(self.fd)

    def open(self, name):
        """Returns a descriptor of a regular file of the layout, opened over no link.

        Raises SandboxError.
        """
        try:
            fd = files.open_beneath(self.fd, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise refused(os.path.join(self.path, name), "can't be opened: %s" % error.strerror)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise refused(os.path.join(self.path, name), "is not a regular file")
        return fd

    def blob(self, descriptor):
        """Returns (fd, algorithm, digest in hex) of a descriptor's blob; its size is right.

        descriptor: dict of the image-spec

        Raises SandboxError.
        """
        digest, size = descriptor.get("digest"), descriptor.get("size")
        algorithm, colon, value = (digest if isinstance(digest, str) else "").partition(":")
        if len(value) != DIGESTS.get(algorithm) or value.strip("0123456789abcdef"):
            raise refused(self.shown, "a descriptor with the digest %r" % (digest,))
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise refused(self.shown, "a descriptor with the size %r" % (size,))
        fd = self.open(b"blobs/%s/%s" % (algorithm.encode(), value.encode()))
        if os.fstat(fd).st_size != size:
            os.close(fd)
            raise refused(digest, "the blob's size differs from its descriptor")
        return fd, algorithm, value

    def json(self, descriptor):
        """Returns the parsed blob of a descriptor, hashed first. Raises SandboxError."""
        fd, algorithm, value = self.blob(descriptor)
        data = _whole(fd, descriptor["digest"])
        self.parsed += len(data)
        if self.parsed > MOST_JSON_IN_ALL:
            raise refused(self.shown, "more than %d bytes of JSON in all" % MOST_JSON_IN_ALL)
        if hashlib.new(algorithm, data).hexdigest() != value:
            raise refused(descriptor["digest"], "the blob's content has another digest")
        return _parsed(data, descriptor["digest"])

    def manifest(self, image):
        """Returns the manifest of an image. image: a name, None if there is only one.

        Raises SandboxError.
        """
        index = _parsed(_whole(self.open(b"index.json"), self.shown), self.shown)
        found = self._manifests(index, 0)
        if image is not None:
            found = [item for item in found if image in item[1]]
        here = MACHINES.get(os.uname().machine)
        fitting = [item for item in found if item[2] in (None, ("linux", here))]
        digests = dict((item[0]["digest"], item) for item in fitting)
        if len(digests) == 1:
            return self.json(fitting[0][0])
        names = sorted(set(name for item in found for name in item[1]))
        if not digests:
            raise usage("--from %s" % self.shown, "holds no image %sfor this machine (linux/%s)" % (
                "called %s " % image if image else "", here),
                        "the images are: %s" % ", ".join(names) if names else None)
        raise usage("--from %s" % self.shown, "holds %d images" % len(digests),
                    "--image NAME chooses: %s" % ", ".join(names)
                    if names else "make a layout of one image")

    def _manifests(self, index, depth):
        """Returns [(descriptor, names, (os, architecture) or None)] of an index and those in it."""
        listed = _list(index, "manifests", self.shown)
        self.listed += len(listed)
        if depth > DEEPEST or len(listed) > MOST_LAYERS or self.listed > MOST_LISTED:
            raise refused(self.shown, "an index of too many images")
        out = []
        for descriptor in listed:
            if not isinstance(descriptor, dict):
                raise refused(self.shown, "an index with an entry that is no object")
            notes, platform = descriptor.get("annotations"), descriptor.get("platform")
            name = notes.get(NAME) if isinstance(notes, dict) else None
            names = [name] if isinstance(name, str) else []
            kind = descriptor.get("mediaType", MANIFESTS[0])
            if kind in INDEXES:
                out += [(inner, names + more, where) for inner, more, where in
                        self._manifests(self.json(descriptor), depth + 1)]
            elif kind in MANIFESTS:
                where = (platform.get("os"),
                         platform.get("architecture")) if isinstance(platform, dict) else None
                out.append((descriptor, names, where))
        return out


def layers(source, path, limits, image=None):
    """Yields a stream of entries per layer, lowest first.

    source: Source of the layout's directory
    path: bytes, for messages
    limits: (bytes, files)
    image: name or None

    Raises SandboxError.
    """
    layout = Layout(source, path)
    try:
        marker = _parsed(_whole(layout.open(b"oci-layout"), layout.shown), layout.shown)
        version = marker.get("imageLayoutVersion")
        if version != "1.0.0":
            raise refused(layout.shown, "an OCI image layout of version %r, not 1.0.0" % (version,))
        manifest = layout.manifest(image)
        listed = _list(manifest, "layers", layout.shown)
        config = manifest.get("config")
        rootfs = layout.json(config if isinstance(config, dict) else {}).get("rootfs")
        unpacked = _list(rootfs if isinstance(rootfs, dict) else {}, "diff_ids", layout.shown)
        if len(listed) > MOST_LAYERS or len(listed) != len(unpacked) or \
                not all(isinstance(one, dict) for one in listed):
            raise refused(layout.shown, "the manifest's layers are not those of the image's "
                          "configuration")
        for descriptor, diff_id in zip(listed, unpacked):
            yield _layer(layout, descriptor, diff_id, limits)
    finally:
        layout.close()


def _layer(layout, descriptor, diff_id, limits):
    """Yields the entries of a layer; both digests are checked at its end."""
    kind = descriptor.get("mediaType", "")
    shown = show(str(descriptor.get("digest")).encode("utf-8", "backslashreplace"))
    if not isinstance(kind, str) or ".tar" not in kind:
        raise refused(shown, "a layer of the kind %r; layers are tar archives" % (kind,))
    algorithm, colon, value = (diff_id if isinstance(diff_id, str) else "").partition(":")
    if len(value) != DIGESTS.get(algorithm):
        raise refused(layout.shown, "a layer with the digest %r" % (diff_id,))
    fd, packed, digest = layout.blob(descriptor)
    try:
        raw = RawFile(fd, packed)
        stream = Stream(raw, shown, limits[0] + limits[1] * OVERHEAD + (1 << 21), algorithm)
        for entry in tar.entries(stream, shown, end_needed=False):
            yield _interpreted(entry)
        stream.drain()
        while raw.read(CHUNK):
            pass
        if raw.hash.hexdigest() != digest or stream.hash.hexdigest() != value:
            raise refused(shown, "the layer's content has another digest")
    finally:
        os.close(fd)


def _interpreted(entry):
    """Returns the entry with whiteouts and names resolved; umoci insert writes absolute names."""
    if entry.name.startswith(b"/"):
        entry.name = entry.name.lstrip(b"/") or b"."
    if entry.kind == "hardlink":
        entry.target = entry.target.lstrip(b"/")
    folder, base = os.path.split(entry.name.rstrip(b"/"))
    if not base.startswith(WHITEOUT):
        return entry
    if base == OPAQUE:
        return Entry("opaque", folder or b".")
    name = base[len(WHITEOUT):]
    if name.startswith(WHITEOUT) or name in (b"", b".", b".."):  # AUFS's own, or invalid
        raise refused(entry.name, "an unknown whiteout")
    return Entry("whiteout", os.path.join(folder, name))


def _whole(fd, shown):
    """Returns all bytes of a small file, and closes it."""
    try:
        parts, size = [], 0
        while True:
            data = os.read(fd, CHUNK)
            size += len(data)
            if size > MOST_JSON:
                raise refused(shown, "more than %d bytes of JSON" % MOST_JSON)
            if not data:
                return b"".join(parts)
            parts.append(data)
    finally:
        os.close(fd)


def _parsed(data, shown):
    try:
        value = json.loads(data.decode("utf-8"), parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise refused(shown, "damaged JSON: %s" % error)
    if not isinstance(value, dict):
        raise refused(shown, "JSON that is no object")
    return value


def _integer(digits):
    if len(digits) > 20:  # a million of them would take hours to convert
        raise ValueError("a number of %d digits" % len(digits))
    return int(digits)


def _list(value, key, shown):
    found = value.get(key)
    if not isinstance(found, list):
        raise refused(shown, "JSON without a list %s" % key)
    return found
