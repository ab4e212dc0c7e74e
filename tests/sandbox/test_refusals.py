# SPDX-License-Identifier: Apache-2.0
"""Hosts that withhold something: `doctor` names it, `run` says the same in one line, and what it says helps.

Those of a single errno are in test_doctor.py, whole other hosts in test_doctor_vm.py and test_cgroup_v1.py.
"""
import json
import os
import tempfile

import pytest

from conftest import PYTHON, PYTHON_PREFIX
from outer_filter import ENOSYS, EOPNOTSUPP, EPERM, behind
from test_doctor import ECHO, doctor, shimmed
from test_policy_verb import bundle, need

OPENED = ("docker, podman: start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
          "--security-opt systempaths=unconfined, or run mrunc there as an ordinary user with --tier process")


# Landlock

NO_LANDLOCK = [("not built in", ENOSYS, "Linux 5.19 (ABI 2)", "Linux 6.12 (ABI 6)", "start mrunc outside of it"),
               ("not in the list", EOPNOTSUPP, "Landlock is not in its lsm= list", "Landlock is not in its lsm= list",
                "Landlock is built in but not in the kernel's lsm= list")]


@pytest.mark.parametrize("answer,first,second,remedy", [row[1:] for row in NO_LANDLOCK], ids=[row[0] for row in NO_LANDLOCK])
def test_without_landlock_it_runs_and_says_why_and_required_it_does_not(inside, answer, first, second, remedy):
    wrap = behind(inside, ("landlock_create_ruleset", answer))
    done = inside.outside([*wrap, *inside.command(*ECHO)])
    assert (done.returncode, done.stdout) == (0, ECHO[1] + "\n"), done
    notes = ["mrunc: note: without %s: this kernel does not have it: %s" % pair
             for pair in (("landlock", first), ("landlock-signals", second))] if first != second else \
        ["mrunc: note: without landlock, landlock-signals: this kernel does not have it: %s" % first]
    assert done.stderr.splitlines() == notes, done
    for name, why in (("landlock", first), ("landlock-signals", second)):
        done = inside.outside([*wrap, *inside.command(*ECHO, options=["--require", name])])
        assert (done.returncode, done.stdout) == (125, ""), done
        assert done.stderr.splitlines()[0] == "mrunc: gate: %s is required: this kernel does not have it: %s" % (name, why)
        assert done.stderr.splitlines()[1].startswith(
            "mrunc: remedy: nothing was run; without --require %s it runs, if only this is missing; " % name), done
        assert remedy in done.stderr.splitlines()[1] and remedy in doctor(inside, wrap).remedy("landlock")[0], done
    done = inside.outside([*wrap, *inside.command(*ECHO, options=["--tier", "process"])])
    assert (done.returncode, done.stdout) == (125, "") and "Landlock" in done.stderr, done


def test_a_landlock_that_a_filter_forbids_is_no_old_kernel(inside):
    wrap = behind(inside, ("landlock_create_ruleset", EPERM))
    why = "landlock_create_ruleset: Operation not permitted: an outer filter (a container?) forbids it"
    done = inside.outside([*wrap, *inside.command(*ECHO)])
    assert (done.returncode, done.stdout, done.stderr) == (
        125, "", "mrunc: gate: landlock is not in force: %s\nmrunc: remedy: let it through there; --best-effort "
        "landlock,landlock-signals runs without\n" % why), done
    done = inside.outside([*wrap, *inside.command(*ECHO, options=["--require", "landlock"])])
    assert done.stderr.splitlines()[0] == "mrunc: gate: landlock is required: " + why, done


# What is set already

@pytest.mark.parametrize("wrap", [
    lambda inside: ["setpriv", "--no-new-privs"],
    lambda inside: behind(inside, ("acct", EPERM)),
    lambda inside: ["setpriv", "--no-new-privs"] + behind(inside, ("acct", EPERM)) + behind(inside, ("acct", ENOSYS)),
], ids=["no_new_privs", "a filter", "no_new_privs and two filters"])
def test_below_no_new_privs_and_filters_of_others_all_is_in_force(inside, wrap):
    path = os.path.join(inside.scratch, "report.json")
    done = inside.outside([*wrap(inside), *inside.command(*ECHO, options=["--report", path])])
    assert (done.returncode, done.stdout, done.stderr) == (0, ECHO[1] + "\n", ""), done
    with open(path) as stream:
        controls = json.load(stream)["controls"]
    assert [row["name"] for row in controls if row["asked"] and not row["in_force"]] == []
    os.unlink(path)
    report = doctor(inside, wrap(inside))
    assert report.rc == 0 and report["outer-nnp"]["state"] == "weak" and report["outer-nnp"]["evidence"] == \
        "no_new_privs is set already", report["outer-nnp"]


MUSL = ("import _signal; ours = _signal.pthread_sigmask; "
        "_signal.pthread_sigmask = lambda how, numbers: ours(how, [n for n in numbers if n != 34])")


def test_a_c_library_that_keeps_signal_34_to_itself_is_no_hindrance(inside):
    """musl's mask never holds it; pid 1 ignores what it has no handler for."""
    done = shimmed(inside, MUSL, "run", "--", *ECHO)
    assert (done.returncode, done.stdout, done.stderr) == (0, ECHO[1] + "\n", ""), done


# In a container

#: What docker leaves to root inside.
CAPABILITIES = ["CAP_" + name for name in ("CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP "
                                           "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE").split()]


def contained(inside, words, uid=0, masked=True, capabilities=CAPABILITIES):
    """The finished mrunc in a container of runc, whose configuration is runc's own but for this."""
    need("runc")
    folder = tempfile.mkdtemp(prefix="bundle-", dir=inside.scratch)
    bundle(folder, "runc", None)
    path = os.path.join(folder, "config.json")
    with open(path) as stream:
        config = json.load(stream)
    os.mkdir(os.path.join(folder, "rootfs", "etc"))
    config["process"].update(args=[PYTHON, "-I", "-S", "/mrunc/mrunc.py"] + words, user={"uid": uid, "gid": uid})
    for name in ("bounding", "effective", "permitted"):
        config["process"]["capabilities"][name] = capabilities
    config["mounts"].append({"destination": "/mrunc", "type": "bind", "source": os.path.dirname(inside.tool),
                             "options": ["rbind", "ro"]})
    config["mounts"] += [{"destination": place, "type": "tmpfs", "source": "tmpfs"} for place in ("/run", "/tmp")]
    config["mounts"].append({"destination": PYTHON_PREFIX, "type": "bind", "source": PYTHON_PREFIX, "options": ["rbind", "ro"]})
    if not masked:
        del config["linux"]["maskedPaths"], config["linux"]["readonlyPaths"]
    with open(path, "w") as stream:
        json.dump(config, stream)
    return inside.outside(["runc", "--root", os.path.join(folder, "state"), "run", os.path.basename(folder)], cwd=folder)


@pytest.mark.parametrize("uid", [0, 1000])
def test_in_a_container_the_remedy_is_its_runtimes_and_it_works_as_root_only(inside_as_root, uid):
    """In the name: only root can start the container."""
    done = contained(inside_as_root, ["run", "--", *ECHO], uid)
    assert (done.returncode, done.stdout) == (125, ""), done
    assert done.stderr.splitlines() == [
        "mrunc: user namespace limit: /proc/sys/user/max_user_namespaces: Read-only file system",
        "mrunc: remedy: this container's runtime forbids it; " + OPENED], done
    done = contained(inside_as_root, ["doctor", "--json"], uid)
    report = json.loads(done.stdout)
    found = {row["name"]: row for row in report["findings"]}
    assert report["inside"] == "container" and "(seen from inside a container" in report["line"]
    assert "masked: /proc/" in found["proc"]["evidence"] and OPENED + " or --proc none" in found["proc"]["remedy"]["why"]
    assert found["userns-limit"]["state"] == "missing" and OPENED in found["userns-limit"]["remedy"]["why"]
    assert found["outer-nnp"]["state"] == "weak"
    done = contained(inside_as_root, ["run", "--tier", "process", "--", *ECHO], uid)
    if uid:
        assert (done.returncode, done.stdout, report["tier"]) == (0, ECHO[1] + "\n", "process"), done
    else:  # what root sets up as another user it can't look into without the capability to trace
        assert (done.returncode, done.stdout, report["tier"]) == (125, "", None), done
        assert done.stderr.splitlines()[1] == ("mrunc: remedy: mrunc must be able to read /proc/PID of its own child: an "
                                               "ordinary user is, root needs CAP_SYS_PTRACE for that"), done
        done = contained(inside_as_root, ["run", "--tier", "process", "--", *ECHO], uid, True, CAPABILITIES + ["CAP_SYS_PTRACE"])
        assert (done.returncode, done.stdout) == (0, ECHO[1] + "\n"), done


def test_in_an_opened_container_it_runs(inside_as_root):
    """As the remedy says: nothing of /proc is masked."""
    done = contained(inside_as_root, ["run", "--", *ECHO], 1000, masked=False)
    assert (done.returncode, done.stdout) == (0, ECHO[1] + "\n"), done
