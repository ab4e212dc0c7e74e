# SPDX-License-Identifier: Apache-2.0
PYTHON ?= /usr/bin/python3
OUT ?= dist
VM_RESULTS ?= build/hosts
PYTHONS_RESULTS ?= build/pythons

.PHONY: help test test-user hidden vm vm-all pythons musl mutants lint ci everything bench freeze widths docs dist vendor clean

help:  ## this text
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

test:  ## the test suite (as root: for root and for an ordinary user)
	.ci/test

test-user:  ## what depends on home and folder, as a user without home, from a copy
	.ci/run user

hidden:  ## what is marked vm behind a filter that hides newer calls, one at a time and all of them: NAME=of one
	.ci/hidden $(if $(NAME),"$(NAME)",all)

vm:  ## what is marked vm, in virtual machines (QEMU): .ci/vm says in which
	.ci/vm

vm-all:  ## the same on Linux 5.10, 6.1, 6.12 and backports, x86_64 and aarch64; writes docs/hosts.md
	RESULTS=$(VM_RESULTS) .ci/vm all
	$(PYTHON) .ci/hosts.py $(VM_RESULTS)

pythons:  ## the suite by every Python from 3.6 on: ten minutes for each; writes docs/pythons.md
	.ci/musl
	RESULTS=$(PYTHONS_RESULTS) .ci/every_python
	$(PYTHON) .ci/pythons_page.py $(PYTHONS_RESULTS)

musl:  ## build a Python with musl instead of glibc, which the tests of every Python then try too
	.ci/musl

mutants:  ## one mistake at a time in a copy, which tests must see (needs root): a quarter of an hour, NAME=of some
	.ci/test --version
	"$${XDG_CACHE_HOME:-$${HOME:-/tmp}/.cache}/mrunc-venv/bin/python" tests/mutants/run.py $(NAME)

lint:  ## ruff, vermin, mypy
	.ci/lint

ci:  ## what must hold before a push: suite, coverage, virtual machines, linters
	.ci/run

everything: ci vm-all hidden pythons mutants  ## that, and all machines, hidden calls, Pythons, mutants: hours

bench:  ## measure beside other sandboxes and write docs/benchmarks.*: ten minutes on a quiet machine, QUICK=1 for three
	-.ci/install gcc libc6-dev strace python3-seccomp bubblewrap crun runc firejail systemd-container runsc
	$(PYTHON) bench/everything.py $(if $(QUICK),--quick) docs

freeze:  ## regenerate the generated files: call numbers, filters, peers, init
	$(PYTHON) .ci/generate_nr.py
	$(PYTHON) .ci/freeze_filters.py
	$(PYTHON) .ci/generate_peers.py
	$(PYTHON) .ci/freeze_init.py

widths:  ## regenerate the argument widths: SOURCE=an unpacked kernel source, EVENTS=events/syscalls of a tracefs
	$(PYTHON) .ci/generate_widths.py --source $(SOURCE) $(if $(EVENTS),--events $(EVENTS))

docs:  ## manual pages and completions from the option tables, the tables in docs/, the schemas
	$(PYTHON) mrunc.py --man > docs/mrunc.1
	$(PYTHON) mrunc.py --man mrunc-policy > docs/mrunc-policy.5
	$(PYTHON) mrunc.py --completion bash > docs/completion.bash
	$(PYTHON) mrunc.py --completion zsh > docs/completion.zsh
	$(PYTHON) .ci/docs.py

dist:  ## wheel, source archive, zipapp and SHA256SUMS, in OUT=dist
	$(PYTHON) .ci/dist.py $(OUT)

vendor:  ## copies what runs, LICENSE and VERSION to DEST=app/_vendor/mrunc
	$(PYTHON) .ci/vendor.py "$(DEST)"

clean:  ## remove what was built
	rm -rf dist build *.egg-info .pytest_cache .coverage .benchmarks
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
