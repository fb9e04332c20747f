"""A Cloud TPU slice as a queued resource: a script of gcloud commands, each in full."""

import shlex
from typing import NamedTuple

from irec_jax import __version__
from irec_jax.errors import InputError
from irec_jax.launching.gke import uploads
from irec_jax.launching.launch_plan import EXIT_BAD_INPUT, EXIT_LOST, JobManifest, LaunchPlan
from irec_jax.launching.slices import read_slice

MOUNT = "/mnt/irec"
PROGRAM = "/opt/irec/bin/irec"
WHEEL = f"dist/irec_jax-{__version__}-py3-none-any.whl"
UNIT, MOUNT_UNIT = "irec", "irec-bucket"
WAIT_FOR_SLICE = "24h"

# The image's Python is older than 3.11 on Ubuntu 22.04, so uv brings one.
_PACKAGES = """\
set -eu
curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg \
| sudo tee /usr/share/keyrings/cloud.google.asc > /dev/null
echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] \
https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" \
| sudo tee /etc/apt/sources.list.d/gcsfuse.list > /dev/null
sudo apt-get -o DPkg::Lock::Timeout=300 update
sudo apt-get -o DPkg::Lock::Timeout=300 install -y gcsfuse
sudo mkdir -p {mount} /opt/irec
sudo chown "$(id -u):$(id -g)" {mount} /opt/irec"""

_PYTHON = """\
set -eu
curl -LsSf https://astral.sh/uv/install.sh | sh
~/.local/bin/uv venv --clear --python 3.12 /opt/irec
~/.local/bin/uv pip install --python /opt/irec/bin/python '{mount}/{wheel}[tpu]'"""

_SCRIPT = """\
#!/usr/bin/env bash
# {made_by}
#
# From a wheel and a config to a finished run, as often as the slice is taken away: each attempt
# goes on from the newest checkpoint in the bucket. The machines run without this script; start it
# again after it was stopped, and it finds them. Or paste its commands one by one.
# Before: launch/README.md, "Cloud TPU VM", 1 to 4.
set -uo pipefail

state() {{
  {describe} 2> /dev/null || echo NONE
}}

# 1. What the run reads goes into the bucket.
{pack}{uploads}

for attempt in $(seq {attempts}); do
  # 2. Ask for the slice, once; what is asked for and not had within {wait} costs nothing.
  if [ "$(state)" = NONE ]; then
    {create} || exit 1
  fi

  # 3. Wait until it is there.
  until [ "$(state)" = ACTIVE ]; do
    case "$(state)" in SUSPENDED | FAILED) break ;; esac
    sleep 30
  done

  code={lost}
  if [ "$(state)" = ACTIVE ]; then
    # 4. On every host, unless it runs there: gcsfuse, the bucket, Python, irec, the run.
    code=0
    if ! {is_running}; then
      {install_packages} &&
      {mount} &&
      {install_python} &&
      {start} ||
      code={bad}
    fi

    # 5. Wait for the end of the run, or of the slice. To read along, in another terminal:
    #    {follow}
    if [ "$code" = 0 ]; then
      while [ "$(state)" = ACTIVE ] && ! {has_ended}; do
        sleep 60
      done
      {result}
      code=$?
    fi
    [ "$(state)" = ACTIVE ] || code={lost}
  fi

  # 6. Give the slice back: it costs money until this is done.
  {delete}

  # 7. 0: done; {bad}: to be mended first; all else goes on from the newest checkpoint.
  case $code in 0 | {bad}) break ;; esac
done

# 8. Fetch the run. Then: {evaluate}
{fetch}
exit "$code"
"""


def render(plan: LaunchPlan) -> JobManifest:
    """The script for `bash`.

    Raises:
        InputError: A setting is missing, or a path is none that a bucket can hold.
    """
    plan.needs("tpu-vm", "topology", "bucket", "project", "zone")
    plan.in_bucket("tpu-vm")
    if not read_slice(plan.topology).family.accelerator:
        hint = "Use --on gke, which is the only way to it."
        raise InputError(f"{plan.topology} is no Cloud TPU VM", where="--topology", hint=hint)
    return JobManifest(_SCRIPT.format(**_commands(plan)._asdict()), ".sh", ("bash",))


class _Commands(NamedTuple):
    """Each command of the script, in full."""

    made_by: str
    pack: str
    uploads: str
    describe: str
    create: str
    is_running: str
    install_packages: str
    mount: str
    install_python: str
    start: str
    follow: str
    has_ended: str
    result: str
    delete: str
    evaluate: str
    fetch: str
    attempts: int
    wait: str = WAIT_FOR_SLICE
    bad: int = EXIT_BAD_INPUT
    lost: int = EXIT_LOST


def _commands(plan: LaunchPlan) -> _Commands:
    delete = _resource(plan, "delete", "--force", "--quiet")
    run = str(plan.run)
    return _Commands(
        made_by=plan.made_by("tpu-vm"),
        # Here and once, before there are machines that would wait for it.
        pack=f"{_join(*plan.pack_words())} || exit\n" if plan.packed else "",
        uploads="\n".join(["gcloud storage cp " + _join(WHEEL, _url(plan, WHEEL)), *uploads(plan)]),
        describe=_resource(plan, "describe", "--format=value(state.state)"),
        create=_create(plan),
        is_running=_everywhere(plan, f'[ "{_property("SubState")}" = running ]'),
        install_packages=_everywhere(plan, _PACKAGES.format(mount=MOUNT)),
        mount=_everywhere(plan, _mount(plan)),
        install_python=_everywhere(plan, _PYTHON.format(mount=MOUNT, wheel=WHEEL)),
        start=_everywhere(plan, _start(plan)),
        follow=_on_first(plan, f"sudo journalctl --unit={UNIT} --follow --output=cat"),
        # ssh that fails says nothing about the run; only a "no" that came back does.
        has_ended=_on_first(plan, f'[ "{_property("SubState")}" != running ]'),
        # A host that was started anew knows of no unit, and of no exit code.
        result=_on_first(
            plan,
            f"[ {_property('LoadState')} = loaded ] || exit {EXIT_LOST}\n"
            f"exit {_property('ExecMainStatus')}",
        ),
        delete=delete,
        evaluate=_join("irec", "evaluate", run),
        fetch=f"gcloud storage rsync {_join(_url(plan, run), run)} --recursive",
        attempts=plan.restarts + 1,
    )


def _create(plan: LaunchPlan) -> str:
    part = read_slice(plan.topology)
    nodes = [f"--node-count={plan.slices}", f"--node-prefix={plan.name}"]
    return _resource(
        plan,
        "create",
        *(nodes if plan.slices > 1 else [f"--node-id={plan.name}"]),
        f"--accelerator-type={part.accelerator_type}",
        f"--runtime-version={part.family.runtime}",
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
        f"--valid-until-duration={WAIT_FOR_SLICE}",
        *(["--spot"] if plan.spot else []),
    )


def _mount(plan: LaunchPlan) -> str:
    """A unit of its own, which the run's unit needs: at a shutdown it is stopped after it.

    Hosts write into one folder and must see each other's files at once, so nothing is remembered.
    """
    fuse = ["gcsfuse", "--foreground", "--implicit-dirs", "--metadata-cache-ttl-secs=0"]
    fuse += ["--metadata-cache-negative-ttl-secs=0", plan.bucket_name, MOUNT]
    unit = ["sudo", "systemd-run", f"--unit={MOUNT_UNIT}", "--uid=$USER"]
    wait = f"timeout 60 sh -c 'until mountpoint -q {MOUNT}; do sleep 1; done'"
    after = "--property=After=network-online.target"
    words = " ".join([*unit, after, _join(*fuse)])
    clear = f"sudo systemctl reset-failed {MOUNT_UNIT} 2> /dev/null"
    return f"mountpoint -q {MOUNT} || {{ {clear}; {words} && {wait}; }}"


def _start(plan: LaunchPlan) -> str:
    """The run as a unit: it outlives the ssh, and a shutdown sends it SIGTERM and waits for it."""
    part = read_slice(plan.topology)
    variables = plan.variables()
    if plan.slices * part.hosts > 1:
        variables = {"IREC_DISTRIBUTED": "auto", **variables}
    clear = (
        f"sudo systemctl stop {UNIT} 2> /dev/null; sudo systemctl reset-failed {UNIT} 2> /dev/null"
    )
    unit = [f"{clear};", "sudo systemd-run"]
    unit += [f"--unit={UNIT}", "--uid=$USER", f"--working-directory={MOUNT}"]
    unit += [f"--property=Requires={MOUNT_UNIT}.service", f"--property=After={MOUNT_UNIT}.service"]
    unit += ["--property=KillMode=mixed", f"--property=TimeoutStopSec={plan.grace}"]
    # What ended well stays, to be asked for its exit code.
    unit += ["--property=RemainAfterExit=yes", "--property=LimitNOFILE=65536"]
    unit += [shlex.quote(f"--setenv={name}={value}") for name, value in variables.items()]
    return " ".join([*unit, "--", _unexpanded(plan.words((PROGRAM,), alone=True))])


def _unexpanded(words: tuple[str, ...]) -> str:
    """Words of a unit, in which systemd puts variables for `$NAME`; doubled, a dollar is one."""
    return shlex.join(word.replace("$", "$$") for word in words)


def _property(name: str) -> str:
    return f"$(systemctl show {UNIT} --property={name} --value)"


def _everywhere(plan: LaunchPlan, command: str) -> str:
    return _resource(plan, "ssh", "--node=all", "--worker=all", f"--command={command}")


def _on_first(plan: LaunchPlan, command: str) -> str:
    return _resource(plan, "ssh", "--node=0", "--worker=0", f"--command={command}")


def _resource(plan: LaunchPlan, verb: str, *words: str) -> str:
    place = [f"--project={plan.project}", f"--zone={plan.zone}"]
    return _join("gcloud", "compute", "tpus", "queued-resources", verb, plan.name, *place, *words)


def _url(plan: LaunchPlan, path: str) -> str:
    return f"gs://{plan.bucket_name}/{path}"


def _join(*words: str) -> str:
    return shlex.join(words)
