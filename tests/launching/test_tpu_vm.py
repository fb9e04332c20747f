"""The script for Cloud TPU runs, with a fake gcloud whose hosts are this one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from irec_jax.launching.launch_plan import LaunchPlan
from irec_jax.launching.tpu_vm import WHEEL, TpuVmTarget

pytestmark = pytest.mark.fast

GCLOUD = r"""#!/usr/bin/env bash
# The state of the slice is a file; commands sent by ssh run here.
verb="$1 $4"
[ "$1" = storage ] && verb="storage $2"
case "$verb" in
  "compute describe") [ -f state ] && cat state ;;
  "compute create")
    echo create >> calls
    echo ACTIVE > state
    rm -f unit ;;
  "compute delete") echo delete >> calls; rm -f state ;;
  "compute ssh")
    [ "$(cat state)" = ACTIVE ] || exit 255
    for word in "$@"; do
      case $word in --command=*) bash -c "${word#--command=}"; exit $? ;; esac
    done ;;
  *) echo "$verb ${*: -3}" >> calls ;;
esac
"""
SUDO = r"""#!/usr/bin/env bash
# Only a command that starts a unit has an effect; its outcome is the next line of a file.
[ "$1" = systemd-run ] || exit 0
shift
case "$*" in
  *--unit=irec-bucket*) echo mounted >> calls ;;
  *)
    printf '%s\0' "$@" > started
    echo start >> calls
    outcome=$(head -n 1 outcomes)
    sed -i 1d outcomes
    case $outcome in
      preempted) echo SUSPENDED > state ;;
      *) echo "$outcome" > unit ;;
    esac ;;
esac
"""
SYSTEMCTL = r"""#!/usr/bin/env bash
case "$*" in
  *SubState*) [ -f unit ] && echo exited || echo dead ;;
  *LoadState*) [ -f unit ] && echo loaded || echo not-found ;;
  *ExecMainStatus*) cat unit ;;
esac
"""
AWKWARD = ("--data.log", 'it\'s "$HOME" `date` $(date) \\ %h &', "")


@pytest.fixture
def hosts(tmp_path) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    nothing = "#!/bin/sh\n"
    stubs = {"gcloud": GCLOUD, "sudo": SUDO, "systemctl": SYSTEMCTL, "sleep": nothing}
    # At first the bucket is not mounted.
    stubs["mountpoint"] = "#!/bin/sh\ngrep -q mounted calls\n"
    stubs |= dict.fromkeys(["curl", "lsb_release"], nothing)
    for name, text in stubs.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    uv = tmp_path / ".local" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text('#!/bin/sh\necho "uv $*" >> calls\n')
    uv.chmod(0o755)
    return tmp_path


def run(hosts: Path, outcomes: list[str], **settings) -> tuple[int, list[str]]:
    target = TpuVmTarget(
        **{"topology": "v5e:4x4", **settings}, bucket="my-bucket", project="p", zone="us-west4-a"
    )
    plan = LaunchPlan(
        Path("configs/a b.py"),
        Path("runs/my run"),
        "tpu-vm",
        overrides=AWKWARD,
        environment=("A=it's 1",),
        inputs=("data/x",),
    )
    (hosts / "outcomes").write_text("\n".join(outcomes) + "\n")
    (hosts / "script").write_text(target.render(plan).text)
    environment = {
        "PATH": f"{hosts / 'bin'}:{os.environ['PATH']}",
        "HOME": str(hosts),
        "USER": "me",
    }
    done = subprocess.run(
        ["bash", "script"], cwd=hosts, env=environment, timeout=60, capture_output=True, text=True
    )
    assert "syntax error" not in done.stderr
    return done.returncode, (hosts / "calls").read_text().splitlines()


def test_a_preempted_slice_is_requested_again(hosts):
    assert shutil.which("bash")
    code, calls = run(hosts, ["preempted", "143", "0"])
    assert code == 0
    verbs = [call for call in calls if call in ("create", "start", "delete")]
    assert verbs == ["create", "start", "delete"] * 3
    assert calls[1] == "storage cp cp configs/a b.py gs://my-bucket/configs/a b.py"
    assert calls[-1] == "storage rsync gs://my-bucket/runs/my run runs/my run --recursive"
    assert any(call.endswith(f"/mnt/irec/{WHEEL}[tpu]") for call in calls)


def test_the_arguments_of_the_run_survive_both_shells(hosts):
    run(hosts, ["0"])
    arguments = (hosts / "started").read_text().split("\0")[:-1]
    end = arguments.index("--")
    expected = ["tune", "configs/a b.py", "--out", "runs/my run", "--take-over", *AWKWARD]
    assert [word.replace("$$", "$") for word in arguments[end + 2 :]] == expected
    assert arguments[end + 1] == "/opt/irec/bin/irec"
    assert "--uid=me" in arguments[:end]
    assert "--setenv=A=it's 1" in arguments[:end]
    assert "--setenv=IREC_DISTRIBUTED=auto" in arguments[:end]


def test_a_bad_input_is_not_tried_again_and_costs_nothing_more(hosts):
    code, calls = run(hosts, ["2", "0"])
    assert code == 2
    assert calls.count("create") == calls.count("delete") == 1


def test_a_failed_installation_is_not_tried_again(hosts):
    (hosts / ".local" / "bin" / "uv").write_text("#!/bin/sh\nexit 1\n")
    code, calls = run(hosts, ["0"])
    assert code == 2
    assert "start" not in calls
    assert calls.count("create") == calls.count("delete") == 1


def test_the_number_of_attempts_is_limited(hosts):
    code, calls = run(hosts, ["preempted"] * 5, restarts=2)
    assert code == 75
    assert calls.count("create") == calls.count("delete") == 3


def test_a_single_host_is_not_distributed(hosts):
    run(hosts, ["0"], topology="v5e:2x4")
    assert "IREC_DISTRIBUTED" not in (hosts / "started").read_text()
