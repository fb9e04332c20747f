"""A Cloud TPU slice as a queued resource: a script of complete gcloud commands."""

import dataclasses
import shlex
from typing import NamedTuple

from irec_jax import __version__
from irec_jax.errors import InputError
from irec_jax.exit_codes import EXIT_BAD_INPUT, EXIT_LOST
from irec_jax.launching.launch_plan import JobFile, LaunchPlan
from irec_jax.launching.slices import SliceSettings
from irec_jax.launching.target_checks import check_name

MOUNT = "/mnt/irec"
PROGRAM = "/opt/irec/bin/irec"
WHEEL = f"dist/irec_jax-{__version__}-py3-none-any.whl"
UNIT, MOUNT_UNIT = "irec", "irec-bucket"
WAIT_FOR_SLICE = "24h"

# The image's Python is older than 3.11 on Ubuntu 22.04, so uv installs one.
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
# {launch_command}
#
# From a wheel and a config to a finished run, with a new attempt after each preemption: each
# attempt resumes from the newest checkpoint in the bucket. The machines run without this script;
# after an interruption, start it again, and it finds them. Its commands also work one by one.
# Before: launch/README.md, "Cloud TPU VM", 1 to 4.
set -uo pipefail

state() {{
  {describe} 2> /dev/null || echo NONE
}}

# 1. Copy the inputs of the run into the bucket.
{pack}{uploads}

for attempt in $(seq {attempts}); do
  # 2. Request the slice, once; a request that is not granted within {wait} costs nothing.
  if [ "$(state)" = NONE ]; then
    {create} || exit 1
  fi

  # 3. Wait for the slice.
  until [ "$(state)" = ACTIVE ]; do
    case "$(state)" in SUSPENDED | FAILED) break ;; esac
    sleep 30
  done

  code={lost}
  if [ "$(state)" = ACTIVE ]; then
    # 4. On every host, unless the run is running: gcsfuse, the bucket, Python, irec, the run.
    code=0
    if ! {is_running}; then
      {install_packages} &&
      {mount} &&
      {install_python} &&
      {start} ||
      code={bad}
    fi

    # 5. Wait for the end of the run or of the slice. To follow the output, in another terminal:
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

  # 6. Delete the slice: it costs money until this is done.
  {delete}

  # 7. {bad} is an error that a restart would repeat; other codes resume from the newest checkpoint.
  case $code in 0 | {bad}) break ;; esac
done

# 8. Fetch the run. Then: {evaluate}
{fetch}
exit "$code"
"""


class _Commands(NamedTuple):
    """The commands of the script."""

    launch_command: str
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TpuVmTarget(SliceSettings):
    """Cloud TPU VMs as a queued resource.

    Attributes:
        project: The Google Cloud project.
        zone: Its zone, such as us-west4-a.
    """

    project: str
    zone: str

    def check(self, plan: LaunchPlan) -> None:
        """Refuses an unknown slice, malformed names, and paths outside of the bucket."""
        self.check_slices(plan)
        check_name("project", self.project)
        check_name("zone", self.zone)
        if not self.slice.names.accelerator:
            hint = "Use --on gke, the only target that rents it."
            problem = f"{self.topology} is not available as Cloud TPU VMs"
            raise InputError(problem, where="--topology", hint=hint)

    def render(self, plan: LaunchPlan) -> JobFile:
        """Renders the script for `bash`."""
        text = _SCRIPT.format(**self._commands(plan)._asdict())
        return JobFile(text, ".sh", ("bash",), ("bash", "gcloud"))

    def _commands(self, plan: LaunchPlan) -> _Commands:
        run = str(plan.run)
        uploads = ["gcloud storage cp " + shlex.join([WHEEL, self._url(WHEEL)])]
        sub_state, load_state = _unit_property("SubState"), _unit_property("LoadState")
        return _Commands(
            launch_command=plan.launch_command(self),
            # Once and on this machine, before there are machines that would wait for it.
            pack=f"{shlex.join(plan.pack_command())} || exit\n" if plan.packed else "",
            uploads="\n".join(uploads + self.upload_commands(plan)),
            describe=self._gcloud(plan, "describe", "--format=value(state.state)"),
            create=self._create(plan),
            is_running=self._on_all_hosts(plan, f'[ "{sub_state}" = running ]'),
            install_packages=self._on_all_hosts(plan, _PACKAGES.format(mount=MOUNT)),
            mount=self._on_all_hosts(plan, self._mount()),
            install_python=self._on_all_hosts(plan, _PYTHON.format(mount=MOUNT, wheel=WHEEL)),
            start=self._on_all_hosts(plan, self._start(plan)),
            follow=self._on_first_host(
                plan, f"sudo journalctl --unit={UNIT} --follow --output=cat"
            ),
            # A failed ssh says nothing about the run; only an answer from the host does.
            has_ended=self._on_first_host(plan, f'[ "{sub_state}" != running ]'),
            # A restarted host knows neither the unit nor its exit code.
            result=self._on_first_host(
                plan,
                f"[ {load_state} = loaded ] || exit {EXIT_LOST}\n"
                f"exit {_unit_property('ExecMainStatus')}",
            ),
            delete=self._gcloud(plan, "delete", "--force", "--quiet"),
            evaluate=shlex.join(["irec", "evaluate", run]),
            fetch=f"gcloud storage rsync {shlex.join([self._url(run), run])} --recursive",
            attempts=self.restarts + 1,
        )

    def _create(self, plan: LaunchPlan) -> str:
        nodes = [f"--node-count={self.slices}", f"--node-prefix={plan.name}"]
        return self._gcloud(
            plan,
            "create",
            *(nodes if self.slices > 1 else [f"--node-id={plan.name}"]),
            f"--accelerator-type={self.slice.accelerator_type}",
            f"--runtime-version={self.slice.names.runtime}",
            "--scopes=https://www.googleapis.com/auth/cloud-platform",
            f"--valid-until-duration={WAIT_FOR_SLICE}",
            *(["--spot"] if self.spot else []),
        )

    def _mount(self) -> str:
        """Mounts the bucket by a unit that the run's unit requires: a shutdown stops it last.

        Hosts write into one folder and must see each other's files at once, so caching is off.
        """
        fuse = ["gcsfuse", "--foreground", "--implicit-dirs", "--metadata-cache-ttl-secs=0"]
        fuse += ["--metadata-cache-negative-ttl-secs=0", self.bucket_name, MOUNT]
        unit = ["sudo", "systemd-run", f"--unit={MOUNT_UNIT}", "--uid=$USER"]
        wait = f"timeout 60 sh -c 'until mountpoint -q {MOUNT}; do sleep 1; done'"
        after = "--property=After=network-online.target"
        mount = " ".join([*unit, after, shlex.join(fuse)])
        clear = f"sudo systemctl reset-failed {MOUNT_UNIT} 2> /dev/null"
        return f"mountpoint -q {MOUNT} || {{ {clear}; {mount} && {wait}; }}"

    def _start(self, plan: LaunchPlan) -> str:
        """Starts the run as a unit: it outlives the ssh session, and a shutdown waits for it."""
        variables = plan.variables()
        if self.hosts > 1:
            variables = {"IREC_DISTRIBUTED": "auto", **variables}
        clear = (
            f"sudo systemctl stop {UNIT} 2> /dev/null; "
            f"sudo systemctl reset-failed {UNIT} 2> /dev/null"
        )
        unit = [f"{clear};", "sudo systemd-run"]
        unit += [f"--unit={UNIT}", "--uid=$USER", f"--working-directory={MOUNT}"]
        unit += [f"--property=Requires={MOUNT_UNIT}.service"]
        unit += [f"--property=After={MOUNT_UNIT}.service"]
        unit += ["--property=KillMode=mixed", f"--property=TimeoutStopSec={self.grace}"]
        # A unit that has ended remains, so that its exit code can be read.
        unit += ["--property=RemainAfterExit=yes", "--property=LimitNOFILE=65536"]
        unit += [shlex.quote(f"--setenv={name}={value}") for name, value in variables.items()]
        return " ".join([*unit, "--", _escape(plan.tune_command((PROGRAM,), take_over=True))])

    def _on_all_hosts(self, plan: LaunchPlan, command: str) -> str:
        return self._gcloud(plan, "ssh", "--node=all", "--worker=all", f"--command={command}")

    def _on_first_host(self, plan: LaunchPlan, command: str) -> str:
        return self._gcloud(plan, "ssh", "--node=0", "--worker=0", f"--command={command}")

    def _gcloud(self, plan: LaunchPlan, verb: str, *arguments: str) -> str:
        resource = ["gcloud", "compute", "tpus", "queued-resources", verb, plan.name]
        place = [f"--project={self.project}", f"--zone={self.zone}"]
        return shlex.join([*resource, *place, *arguments])

    def _url(self, path: str) -> str:
        return f"gs://{self.bucket_name}/{path}"


def _escape(command: tuple[str, ...]) -> str:
    """Quotes a command of a unit, where systemd expands `$NAME`; a doubled dollar sign is one."""
    return shlex.join(argument.replace("$", "$$") for argument in command)


def _unit_property(name: str) -> str:
    return f"$(systemctl show {UNIT} --property={name} --value)"
