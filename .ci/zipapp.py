# SPDX-License-Identifier: Apache-2.0
"""Makes the zipapp: python3 .ci/zipapp.py OUT.  The same bytes for the same sources, Python version and SOURCE_DATE_EPOCH.

It holds the bytecode of the Python that makes it, and the sources, which every other one takes.  Bytecode is unchecked (PEP
552): with a time in it, it would be compared with the archive's, which are local times, and be void in another time zone.
Nothing is compressed: the bytes depend on no zlib, and a Python without one can start it.
"""
import os
import py_compile
import stat
import sys
import tempfile
import time
import zipfile

from shipped import HERE, epoch, read, runtime_files

SHEBANG = b"#!/usr/bin/env python3\n"


def entries():
    """[(name, bytes)] of the archive, in order."""
    found = [("LICENSE", read("LICENSE"))]
    with tempfile.TemporaryDirectory() as place:
        made = os.path.join(place, "made.pyc")
        for path in runtime_files():
            py_compile.compile(os.path.join(HERE, path), made, "mrunc.pyz/" + path, doraise=True, optimize=0,
                               invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
            found += [(path, read(path)), (path + "c", read(made))]
    return sorted(found)


def write(out):
    """Writes the archive, executable."""
    when = time.gmtime(epoch())[:6]
    with open(out + ".new", "wb") as stream:
        stream.write(SHEBANG)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for name, data in entries():
                info = zipfile.ZipInfo(name, when)
                info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data)
    os.chmod(out + ".new", 0o755)
    os.rename(out + ".new", out)


if __name__ == "__main__":
    if sys.version_info < (3, 7):
        sys.exit("the zipapp is made by Python 3.7 or newer; it runs on 3.6")
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set of constants would be another each time
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-S", "-B"] + sys.argv)
    write(sys.argv[1])
