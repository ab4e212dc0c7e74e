# SPDX-License-Identifier: Apache-2.0
"""Makes a release: python3 .ci/dist.py OUT: wheel, source archive, zipapp and SHA256SUMS.

The wheel is what pyproject.toml's builder makes of a copy of the sources; it is fetched once, into ~/.cache.  The source
archive is every file of the checkout and the wheel's METADATA as PKG-INFO.  All bear one time, see shipped.epoch.
"""
import fcntl
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

from shipped import HERE, epoch, git, read, runtime_files, version

SKIPPED = {".git", "__pycache__", "build", "dist"}


def sources():
    """Sorted paths of every file of the project: what git knows and what runs, else what lies there."""
    known = git("ls-files", "-z")
    if known is not None:
        return sorted(path for path in set(known.split("\0")) | set(runtime_files())
                      if path and os.path.isfile(os.path.join(HERE, path)))
    found = []
    for folder, names, files in os.walk(HERE):
        names[:] = [name for name in names if name not in SKIPPED and not name.endswith((".egg-info", "_cache"))]
        found += [os.path.relpath(os.path.join(folder, name), HERE) for name in files if name != "PKG-INFO"]
    return sorted(found)


def builder():
    """The Python of a virtual environment that has setuptools."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    try:
        os.makedirs(cache, exist_ok=True)
    except OSError:
        cache = os.path.join(tempfile.gettempdir(), "mrunc-cache-%d" % os.getuid())
        os.makedirs(cache, exist_ok=True)
    place = os.path.join(cache, "mrunc-build")
    with open(place + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(os.path.join(place, "ready")):
            shutil.rmtree(place, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", place], check=True)
            subprocess.run([os.path.join(place, "bin", "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check",
                            "-c", os.path.join(HERE, ".ci", "versions.txt"), "setuptools"], check=True)
            open(os.path.join(place, "ready"), "w").close()
    return os.path.join(place, "bin", "python")


def wheel(out):
    """Makes it and returns its path."""
    with tempfile.TemporaryDirectory() as place:
        for path in sources():  # the builder leaves its own things beside them
            target = os.path.join(place, "source", path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(HERE, path), target)
        subprocess.run([builder(), "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "--no-index",
                        "--no-build-isolation", "-w", os.path.join(place, "made"), os.path.join(place, "source")], check=True,
                       env=dict(os.environ, SOURCE_DATE_EPOCH=str(epoch())), stdout=subprocess.DEVNULL)
        name, = os.listdir(os.path.join(place, "made"))
        return shutil.copy(os.path.join(place, "made", name), out)


def source_archive(out, metadata):
    """Writes mrunc-VERSION.tar.gz.  metadata: bytes."""
    top = "mrunc-" + version()
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in ["PKG-INFO"] + sources():
            entry = tarfile.TarInfo(top + "/" + path)
            content = metadata if path == "PKG-INFO" else read(path)
            entry.size, entry.mtime = len(content), epoch()
            entry.mode = 0o755 if path != "PKG-INFO" and os.access(os.path.join(HERE, path), os.X_OK) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    with open(os.path.join(out, top + ".tar.gz"), "wb") as stream:
        with gzip.GzipFile("", "wb", 9, stream, epoch()) as packed:
            packed.write(data.getvalue())


def main(out):
    """Everything, into an emptied directory."""
    os.umask(0o022)  # a wheel keeps the modes of what was built
    os.makedirs(out, exist_ok=True)
    for name in os.listdir(out):
        if name.startswith("mrunc") or name == "SHA256SUMS":
            os.unlink(os.path.join(out, name))
    archive = zipfile.ZipFile(wheel(out))
    metadata, = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    source_archive(out, archive.read(metadata))
    subprocess.run([sys.executable, os.path.join(HERE, ".ci", "zipapp.py"), os.path.join(out, "mrunc.pyz")], check=True)
    names = sorted(name for name in os.listdir(out) if name.startswith("mrunc"))
    with open(os.path.join(out, "SHA256SUMS"), "w") as stream:
        for name in names:
            with open(os.path.join(out, name), "rb") as made:
                stream.write("%s  %s\n" % (hashlib.sha256(made.read()).hexdigest(), name))


if __name__ == "__main__":
    main(sys.argv[1])
