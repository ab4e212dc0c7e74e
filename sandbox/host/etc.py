# SPDX-License-Identifier: Apache-2.0
"""/etc of the sandbox: our own files, and a fixed table of host entries without secrets or identity."""

#: (name, reason); a name may end in `*`.  Everything else of the host's /etc stays out.
HOST_ENTRIES = (
    ("alternatives", "links by which Debian and Red Hat choose awk, java, editor"),
    ("ld.so.cache", "where the dynamic loader finds libraries"),
    ("ld.so.conf", "the same, for ldconfig -p and rebuilt caches"),
    ("ld.so.conf.d", "the same"),
    ("java*", "a JVM does not start without its configuration"),
    ("ssl/certs", "certificate authorities: reading signatures, `import ssl`"),
    ("ssl/openssl.cnf", "openssl does not start without it"),
    ("pki", "the same two on Red Hat"),
    ("crypto-policies", "the same, read by openssl and gnutls on Red Hat"),
    ("localtime", "local time"),
    ("terminfo", "terminal descriptions"),
    ("fonts", "fontconfig, also used by headless java and ImageMagick"),
    ("magic", "file(1)"),
    ("mime.types", "types by file name, python's mimetypes"),
)


def own_files(uid, gid, home, hostname):
    """[(name below /etc, bytes)] of the files that mrunc writes itself.

    uid, gid: the identity inside; home, hostname: bytes.  No line tells anything of the host.
    """
    users = [(0, 0, b"root", b"/root" if uid == 0 else b"/")]
    if uid:
        users.append((uid, gid, b"user", home))
    passwd = [b"%s:x:%d:%d:%s:%s:/bin/sh" % (name, user, group, name, place) for user, group, name, place in users]
    groups = [b"root:x:0:"] + ([b"user:x:%d:" % gid] if gid else [])
    return [
        ("passwd", b"\n".join(passwd + [b"nobody:x:65534:65534:nobody:/:/usr/sbin/nologin", b""])),
        ("group", b"\n".join(groups + [b"tty:x:5:", b"nogroup:x:65534:", b""])),
        ("hosts", b"127.0.0.1 localhost %s\n::1 localhost\n" % hostname),
        ("hostname", hostname + b"\n"),
        ("nsswitch.conf", b"passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n"),
        ("resolv.conf", b""),
        ("os-release", b'ID=mrunc\nNAME="mrunc"\nPRETTY_NAME="mrunc sandbox"\n'),
    ]
