"""What a plan refuses, and that its words survive shells, systemd, Kubernetes and YAML."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from irec_jax.errors import InputError
from irec_jax.launching import gke, processes, slurm, tpu_vm
from irec_jax.launching.launch_plan import READS, LaunchPlan, check_fit
from irec_jax.launching.slices import FAMILIES, read_slice, shapes_of
from irec_jax.launching.yaml_text import to_yaml
from irec_jax.planning.topology import datasheet
from irec_jax.settings import from_json, to_json

PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" ")).filter(
    str.isprintable
)
CLOUD = {
    "topology": "v5e:4x4",
    "bucket": "my-bucket",
    "image": "eu.gcr.io/p/irec:1",
    "project": "p",
    "zone": "us-west4-a",
}
AWKWARD = (
    "--data.log",
    'it\'s "$HOME" `date` $(date) $$ $$(x) \\ %h & | > < ; * ~ ! # é 日本',
    "--x",
    "",
)


def expanded(text: str) -> str:
    """As Kubernetes expands it: `$$` is a dollar, `$(NAME)` a variable, of which there is none."""
    assert not re.search(r"\$\(", text.replace("$$", ""))
    return text.replace("$$", "$")


def plan(**settings) -> LaunchPlan:
    return LaunchPlan(**{"experiment": Path("configs/a.py"), "run": Path("runs/a b"), **settings})


@given(st.lists(PRINTABLE), PRINTABLE)
def test_the_command_that_made_a_manifest_reads_back_as_its_words(overrides, folder):
    assume(folder.strip("./ "))
    made = plan(run=Path(folder), overrides=tuple(overrides))
    words = shlex.split(made.made_by("local"))
    assert words[:6] == ["irec", "launch", "configs/a.py", "--on", "local", "--out"]
    assert words[6:] == [str(made.run), *overrides]
    assert "\n" not in made.made_by("local")


@settings(max_examples=20, deadline=None)
@given(st.lists(PRINTABLE, max_size=4), PRINTABLE)
def test_a_shell_starts_the_words_of_a_plan_and_no_others(overrides, value):
    """bash itself is the judge: `irec` is a function that prints what it was given."""
    made = plan(overrides=tuple(overrides), environment=(f"VALUE={value}",))
    line = next(x for x in processes.render(made, "local").text.splitlines() if "irec tune" in x)
    command = line[: line.rindex(" > 'runs/a b/launch/process-0.log'")]
    told = 'irec() { printf \'%s\\0\' "$VALUE" "$@"; }\n' + command
    done = subprocess.run(["bash", "-c", told], capture_output=True, check=True)
    said = done.stdout.decode("utf-8").split("\0")[:-1]
    assert said == [value, "tune", "configs/a.py", "--out", "runs/a b", *overrides]


def test_words_survive_every_target():
    made = plan(overrides=AWKWARD, environment=("A=it's $1 $$ $(A) $$(B) $",), **CLOUD)
    start = ["irec", "tune", "configs/a.py", "--out", "runs/a b"]
    # Where no attempt starts before the one before has ended, a lock that it left is taken.
    wanted = [*start, "--take-over", *AWKWARD]

    script = slurm.render(made).text
    line = next(x for x in script.splitlines() if x.startswith("  irec tune"))
    assert shlex.split(line) == [*start, *AWKWARD, "$over"]
    assert "export A='it'\"'\"'s $1 $$ $(A) $$(B) $'" in script

    job = yaml.safe_load(gke.render(made).text)["spec"]["replicatedJobs"][0]["template"]["spec"]
    container = job["template"]["spec"]["containers"][0]
    assert [expanded(word) for word in container["command"]] == wanted
    values = {entry["name"]: expanded(entry["value"]) for entry in container["env"]}
    assert values["A"] == "it's $1 $$ $(A) $$(B) $"

    script = tpu_vm.render(made).text
    start = next(x for x in script.splitlines() if "/opt/irec/bin/irec tune" in x)
    remote = next(x for x in shlex.split(start.rstrip(" |")) if x.startswith("--command="))
    words = shlex.split(remote.removeprefix("--command="), comments=False)
    unit = words[words.index("--") + 1 :]
    assert [word.replace("$$", "$") for word in unit] == ["/opt/irec/bin/irec", *wanted[1:]]
    assert "--setenv=A=it's $1 $$ $(A) $$(B) $" in words


@given(
    st.recursive(
        st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), st.booleans()),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        ),
    ).filter(lambda value: value and isinstance(value, list | dict))
)
def test_yaml_reads_back_as_what_was_written(value):
    assert yaml.safe_load(to_yaml(value)) == value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"overrides": ("a\nb",)}, "cannot be printed"),
        ({"environment": ("A=1", "B")}, "--environment: word 2 sets nothing"),
        ({"environment": ("A B=1",)}, "--environment: word 1 sets nothing"),
        ({"environment": ("A=1\n2",)}, "--environment: the value of A cannot be printed"),
        ({"processes": 0}, "--processes: must be between 1 and"),
        ({"time_limit": -1}, "--time-limit"),
        ({"grace": 100_000}, "--grace"),
        ({"bucket": "gs://my bucket"}, "--bucket"),
        ({"bucket": "my-bucket/runs"}, "--bucket"),
        ({"partition": "a b"}, "--partition"),
        ({"zone": "$(reboot)"}, "--zone"),
    ],
)
def test_a_plan_refuses_what_cannot_be(given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        plan(**given)


@pytest.mark.parametrize("module", [gke, tpu_vm])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"topology": ""}, "--topology"),
        ({"bucket": ""}, "--bucket"),
        ({"topology": "v5e:3x3"}, "v5e has no slice '3x3'"),
        ({"topology": "v5:4x4"}, "Did you mean 'v5"),
        ({"run": Path("/runs/a")}, "--out"),
        ({"experiment": Path("../a.py")}, "experiment"),
        ({"inputs": ("/data/log",)}, "input"),
    ],
)
def test_the_cloud_refuses_what_it_could_not_find(module, given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        module.render(plan(**{**CLOUD, **given}))


def test_tpu7x_is_for_gke_alone():
    with pytest.raises(InputError, match="no Cloud TPU VM"):
        tpu_vm.render(plan(**{**CLOUD, "topology": "tpu7x:2x2x1"}))
    assert "tpu7x-standard-4t" in gke.render(plan(**{**CLOUD, "topology": "tpu7x:2x2x1"})).text


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
def test_a_slice_has_the_names_that_google_gives_it(topology, accelerator, machine, hosts, devices):
    part = read_slice(topology)
    assert (part.accelerator_type, part.machine_type) == (accelerator, machine)
    assert (part.hosts, part.devices) == (hosts, devices)


def test_every_slice_is_whole_hosts():
    assert FAMILIES.keys() == datasheet().keys()
    for name in FAMILIES:
        for shape in shapes_of(name):
            part = read_slice(f"{name}:{shape}")
            assert part.hosts * part.host_chips == part.chips


def test_a_plan_survives_json():
    made = plan(overrides=AWKWARD, environment=("A=b",), **CLOUD, spot=True, slices=2)
    assert from_json(LaunchPlan, to_json(made)) == made


def test_every_setting_that_a_target_reads_is_one_of_a_plan():
    fields = set(LaunchPlan.__dataclass_fields__)
    assert frozenset().union(*READS.values()) <= fields


@pytest.mark.parametrize(
    ("sizes", "rows", "options", "message"),
    [
        ((1, 3, 1, 1), 32, {"devices": 16}, "mesh: 1 x 3 x 1 x 1 does not fit 16 devices"),
        ((1, -1, 1, 5), 32, {"devices": 16}, "mesh"),
        ((1, -1, 1, 1), 32, {"devices": 32, "slices": 2}, "--mesh.replica 2"),
        ((1, -1, 1, 1), 24, {"devices": 16}, "--train.batch_size 16"),
        ((1, -1, 1, 2), 8, {"devices": 16, "accumulate": 2}, "--train.batch_size 16"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused_before_it_is_paid_for(sizes, rows, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        check_fit(sizes, rows, **options)
    check_fit((2, -1, 2, 2), 32, devices=32, slices=2)
