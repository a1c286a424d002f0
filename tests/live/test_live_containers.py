"""Containers of a real Podman, as fastsmaps names them and as Podman does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest

from support import processes
from support.commands import environment

# All of it in one mount namespace: crun refuses a v1 machine whose v2 hierarchy has controllers,
# so that hierarchy is not mounted there. The bounds on RLIMIT_* are for a Podman without
# CAP_SYS_RESOURCE. The container's files are the host's /usr.
SCRIPT = """
umount /sys/fs/cgroup/unified 2> /dev/null
directory=$1 name=$2
shift 2
mkdir -p "$directory/root" && cd "$directory/root" || exit
mkdir proc sys dev etc tmp run usr var
for link in bin sbin lib lib64; do ln -s usr/$link $link; done
own="podman --root $directory/storage --runroot $directory/run --cgroup-manager=cgroupfs"
own="$own --events-backend=file --log-level=error"
finish() {
    $own rm --force --time=0 $name-1 $name-2
    for parent in /sys/fs/cgroup/libpod_parent /sys/fs/cgroup/*/libpod_parent; do
        for try in 1 2 3 4 5 6 7 8 9 10; do  # conmon ends soon; another Podman may use it
            test -d $parent || break
            rmdir $parent/conmon $parent || sleep 0.1
        done
    done
}
trap 'finish > /dev/null 2>&1' EXIT
for i in 1 2; do
    $own run --detach --name $name-$i --network=none --ulimit=nofile=500:500 \
        --ulimit=nproc=500:500 --volume=/usr:/usr:ro \
        --rootfs "$directory/root" sleep 1000 > /dev/null || exit
done
$own ps --no-trunc --format '{{.ID}}' > "$directory/ids" || exit
"$@" > "$directory/rows"
"""


@pytest.mark.slow  # Podman takes seconds to start two containers
def test_podmans_containers_have_the_names_of_podman_ps() -> None:
    for program in ("podman", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    name = f"fastsmaps-{uuid.uuid4().hex[:8]}"
    ps = [sys.executable, "-m", "fastsmaps", "ps", "--by", "container", "--json"]
    # Podman refuses a --runroot of more than 50 characters, which pytest's tmp_path is.
    with tempfile.TemporaryDirectory(prefix="fs", dir="/tmp") as directory:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", directory, name, *ps],
            capture_output=True, text=True, env=environment(), timeout=processes.TIMEOUT,
            check=False,
        )  # fmt: skip
        ids, rows = Path(directory, "ids"), Path(directory, "rows")
        if not ids.exists():
            pytest.skip(f"Podman cannot start a container here: {done.stderr.strip()[-300:]}")
        assert done.returncode == 0, done.stderr
        names = [f"podman:{number[:12]}" for number in ids.read_text().split()]
        found = {row["container"]: row["processes"] for row in json.loads(rows.read_text())}
    assert len(names) == 2
    # conmon is not in them. Others may run on this machine, too.
    assert {name: found.get(name) for name in names} == dict.fromkeys(names, 1)
