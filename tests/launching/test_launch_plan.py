"""Refusals of a plan, and that its arguments survive shells, systemd, Kubernetes and YAML."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.launching.gke import GkeTarget
from irec_jax.launching.launch_folder import HostLaunch
from irec_jax.launching.launch_plan import Allocation, LaunchPlan
from irec_jax.launching.local import LocalTarget
from irec_jax.launching.processes import ProcessesTarget
from irec_jax.launching.slices import GENERATIONS, read_slice, shapes_of
from irec_jax.launching.slurm import SlurmTarget
from irec_jax.launching.target_checks import check_mesh
from irec_jax.launching.targets import TARGETS, LaunchTarget, find_target, flags_of
from irec_jax.launching.tpu_vm import TpuVmTarget
from irec_jax.planning.topology import datasheet
from irec_jax.settings import from_json, to_json

pytestmark = pytest.mark.fast

PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" ")).filter(
    str.isprintable
)
SLICE = {"topology": "v5e:4x4", "bucket": "my-bucket"}
AWKWARD = (
    "--data.log",
    'it\'s "$HOME" `date` $(date) $$ $$(x) \\ %h & | > < ; * ~ ! # é 日本',
    "--x",
    "",
)


def expand(text: str) -> str:
    """Expands as Kubernetes does: `$$` is a dollar, `$(NAME)` a variable, of which none is set."""
    assert not re.search(r"\$\(", text.replace("$$", ""))
    return text.replace("$$", "$")


def plan(on="local", **fields) -> LaunchPlan:
    return LaunchPlan(
        **{"experiment": Path("configs/a.py"), "run": Path("runs/a b"), "on": on, **fields}
    )


def gke(**fields) -> GkeTarget:
    return GkeTarget(**{**SLICE, "image": "eu.gcr.io/p/irec:1", **fields})


def tpu_vm(**fields) -> TpuVmTarget:
    return TpuVmTarget(**{**SLICE, "project": "p", "zone": "us-west4-a", **fields})


@given(st.lists(PRINTABLE), PRINTABLE)
def test_the_launch_command_parses_back_into_its_arguments(overrides, folder):
    assume(folder.strip("./ "))
    made = plan(run=Path(folder), overrides=tuple(overrides))
    command = made.launch_command(LocalTarget(grace=9))
    arguments = shlex.split(command)
    assert arguments[:6] == ["irec", "launch", "configs/a.py", "--on", "local", "--out"]
    assert arguments[6:] == [str(made.run), "--grace", "9", *overrides]
    assert "\n" not in command


@settings(max_examples=20, deadline=None)
@given(st.lists(PRINTABLE, max_size=4), PRINTABLE)
def test_a_shell_runs_exactly_the_arguments_of_a_plan(overrides, value):
    """bash is the judge: `irec` is a function that prints its arguments."""
    made = plan(overrides=tuple(overrides), environment=(f"VALUE={value}",))
    lines = LocalTarget().render(made).text.splitlines()
    line = next(line for line in lines if "irec tune" in line)
    command = line[: line.rindex(" > 'runs/a b/launch/process-0.log'")]
    script = 'irec() { printf \'%s\\0\' "$VALUE" "$@"; }\n' + command
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    printed = done.stdout.decode("utf-8").split("\0")[:-1]
    assert printed == [value, "tune", "configs/a.py", "--out", "runs/a b", *overrides]


def test_arguments_survive_every_target():
    made = plan(overrides=AWKWARD, environment=("A=it's $1 $$ $(A) $$(B) $",))
    start = ["irec", "tune", "configs/a.py", "--out", "runs/a b"]
    # Where no attempt starts before the one before has ended, a lock that it left is taken.
    expected = [*start, "--take-over", *AWKWARD]

    script = SlurmTarget().render(made).text
    line = next(x for x in script.splitlines() if x.startswith("  irec tune"))
    assert shlex.split(line) == [*start, *AWKWARD, "$over"]
    assert "export A='it'\"'\"'s $1 $$ $(A) $$(B) $'" in script

    job = yaml.safe_load(gke().render(made).text)["spec"]["replicatedJobs"][0]["template"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    assert [expand(argument) for argument in container["command"]] == expected
    values = {entry["name"]: expand(entry["value"]) for entry in container["env"]}
    assert values["A"] == "it's $1 $$ $(A) $$(B) $"

    script = tpu_vm().render(made).text
    start = next(x for x in script.splitlines() if "/opt/irec/bin/irec tune" in x)
    remote = next(x for x in shlex.split(start.rstrip(" |")) if x.startswith("--command="))
    arguments = shlex.split(remote.removeprefix("--command="), comments=False)
    unit = arguments[arguments.index("--") + 1 :]
    assert [x.replace("$$", "$") for x in unit] == ["/opt/irec/bin/irec", *expected[1:]]
    assert "--setenv=A=it's $1 $$ $(A) $$(B) $" in arguments


@given(st.lists(PRINTABLE), PRINTABLE)
def test_a_manifest_reads_back_as_what_was_written(overrides, value):
    made = plan(overrides=tuple(overrides), environment=(f"A={value}",))
    job = yaml.safe_load(gke().render(made).text)["spec"]["replicatedJobs"][0]["template"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    command = ["irec", "tune", "configs/a.py", "--out", "runs/a b", "--take-over", *overrides]
    assert container["command"] == [argument.replace("$", "$$") for argument in command]
    assert container["env"][-1] == {"name": "A", "value": value.replace("$", "$$")}


@pytest.mark.parametrize("value", ["1e-3", "0o14", "0x1F", "1_000", "y", "N", "~", "null", "12:30"])
def test_kubernetes_never_reads_text_as_another_type(value):
    """Its parser knows more numbers and truth values than PyYAML."""
    text = gke().render(plan(overrides=("--x", value))).text
    assert re.search(rf"""- (["']){re.escape(value)}\1$""", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"overrides": ("a\nb",)}, "contains a control character"),
        ({"environment": ("A=1", "B")}, "--environment: entry 2 is not NAME=VALUE"),
        ({"environment": ("A B=1",)}, "--environment: entry 1 is not NAME=VALUE"),
        ({"environment": ("A=1\n2",)}, "--environment: the value of A contains a control"),
    ],
)
def test_a_plan_refuses_malformed_text(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        plan(**given)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (ProcessesTarget(processes=0), "--processes: must be between 1 and 10,000, got 0"),
        (ProcessesTarget(devices=-1), "--devices: must be between 0 and 10,000, got -1"),
        (LocalTarget(time_limit=-1), "--time-limit: must be between 0 and 525,600, got -1"),
        (SlurmTarget(grace=100_000), "--grace: must be between 1 and 86,400, got 100,000"),
        (SlurmTarget(restarts=-1), "--restarts: must be between 0 and"),
        (SlurmTarget(partition="a b"), "--partition: 'a b' is not a valid name"),
        (gke(bucket="gs://my bucket"), "--bucket"),
        (gke(bucket="my-bucket/runs"), "--bucket"),
        (gke(image=""), "--image"),
        (gke(slices=0), "--slices: must be between 1 and"),
        (tpu_vm(zone="$(reboot)"), "--zone"),
    ],
)
def test_a_target_refuses_settings_out_of_bounds(target, message):
    with pytest.raises(InputError, match=re.escape(message)):
        target.check(plan())


@pytest.mark.parametrize("make_target", [gke, tpu_vm])
@pytest.mark.parametrize(
    ("settings", "fields", "message"),
    [
        ({"topology": ""}, {}, "--topology"),
        ({"bucket": ""}, {}, "--bucket"),
        ({"topology": "v5e:3x3"}, {}, "v5e has no slice '3x3'"),
        ({"topology": "v5:4x4"}, {}, "Did you mean 'v5"),
        ({}, {"run": Path("/runs/a")}, "--out"),
        ({}, {"experiment": Path("../a.py")}, "experiment"),
        ({}, {"inputs": ("/data/log",)}, "input"),
    ],
)
def test_the_cloud_refuses_paths_and_slices_that_do_not_exist_there(
    make_target, settings, fields, message
):
    with pytest.raises(InputError, match=re.escape(message)):
        make_target(**settings).check(plan(**fields))


def test_tpu7x_is_only_available_through_gke():
    topology = "tpu7x:2x2x1"
    with pytest.raises(InputError, match="not available as Cloud TPU VMs"):
        tpu_vm(topology=topology).check(plan())
    gke(topology=topology).check(plan())
    assert "tpu7x-standard-4t" in gke(topology=topology).render(plan()).text


@pytest.mark.parametrize(
    ("topology", "accelerator", "machine", "hosts", "devices"),
    [
        # From Google's tables of Cloud TPU and GKE.
        ("v5e:1x1", "v5litepod-1", "ct5lp-hightpu-1t", 1, 1),
        ("v5e:2x4", "v5litepod-8", "ct5lp-hightpu-8t", 1, 8),
        ("v5e:4x4", "v5litepod-16", "ct5lp-hightpu-4t", 4, 16),
        ("v6e:8x8", "v6e-64", "ct6e-standard-4t", 16, 64),
        ("v4:2x2x4", "v4-32", "ct4p-hightpu-4t", 4, 16),
        ("v5p:2x2x1", "v5p-8", "ct5p-hightpu-4t", 1, 4),
        ("v5p:4x4x4", "v5p-128", "ct5p-hightpu-4t", 16, 64),
    ],
)
def test_a_slice_has_the_names_of_google_cloud(topology, accelerator, machine, hosts, devices):
    tpu = read_slice(topology)
    assert (tpu.accelerator_type, tpu.machine_type) == (accelerator, machine)
    assert (tpu.hosts, tpu.devices) == (hosts, devices)


def test_every_slice_consists_of_whole_hosts():
    assert GENERATIONS.keys() == datasheet().keys()
    for generation in GENERATIONS:
        for shape in shapes_of(generation):
            tpu = read_slice(f"{generation}:{shape}")
            assert tpu.hosts * tpu.host_chips == tpu.chips


def test_a_launch_survives_json():
    made = HostLaunch(plan(overrides=AWKWARD, environment=("A=b",)), processes=3, grace=9)
    assert from_json(HostLaunch, to_json(made)) == made


@pytest.mark.parametrize(
    ("axes", "rows", "accumulate", "allocation", "message"),
    [
        ((1, 3, 1, 1), 32, 1, (16, 1), "mesh: 1 x 3 x 1 x 1 does not fit 16 devices"),
        ((1, -1, 1, 5), 32, 1, (16, 1), "mesh"),
        ((1, -1, 1, 1), 32, 1, (32, 2), "--mesh.replica 2"),
        ((1, -1, 1, 1), 24, 1, (16, 1), "--train.batch_size 16"),
        ((1, -1, 1, 2), 8, 2, (16, 1), "--train.batch_size 16"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused_before_it_is_paid_for(
    axes, rows, accumulate, allocation, message
):
    with pytest.raises(InputError, match=re.escape(message)):
        check_mesh(axes, rows, accumulate, Allocation(*allocation))
    check_mesh((2, -1, 2, 2), 32, 1, Allocation(32, 2))


@pytest.mark.parametrize("name", TARGETS)
def test_every_entry_of_the_table_is_a_launch_target(name):
    assert find_target(name) is TARGETS[name]
    assert issubclass(find_target(name), LaunchTarget)
    assert all(flag.startswith("--") for flag in flags_of(find_target(name)))


@pytest.mark.parametrize(
    ("on", "text", "message"),
    [
        ("gkee", None, "unknown launch target 'gkee'"),
        ("mine.py:Mine", None, "there is no such file"),
        ("mine.py:Mine", "import nothing_like_it", "ModuleNotFoundError"),
        ("mine.py:Mine", "class Mine: ...", "'Mine' is not a launch target"),
    ],
)
def test_a_target_that_cannot_be_loaded_is_refused(on, text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        find_target(on)
