"""Slots of the user's own, from a task to a prompt and back from a run."""

import dataclasses

import pytest

from irec_jax.audit.audit import Auditor
from irec_jax.audit.text_leaks import Finding
from irec_jax.errors import InputError
from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.forms import CustomTaskName, Intention, Preference, Slot
from irec_jax.instructions.pack_files import pack_text
from irec_jax.instructions.render import Renderer
from irec_jax.instructions.slots import SlotInputs, slot_filler, slot_name
from irec_jax.instructions.tasks import Task
from irec_jax.instructions.teacher import LogTeacher
from irec_jax.settings import ImportedSettings, from_json, to_json

pytestmark = pytest.mark.fast

TEMPLATE = """
[[template]]
id = "after"
task = "next_after_last"
text = "This {person} {acted} {last} . What is next ?"
"""


@dataclasses.dataclass(frozen=True)
class LastItems:
    name: str = "last"
    count: int = 1

    def fill(self, inputs, write):
        return write(inputs.history[-self.count :]) if self.count else ""


def task_with(*slots) -> Task:
    return Task(
        name=CustomTaskName("next_after_last"),
        preference=Preference.IMPLICIT,
        intentions=(Intention.NONE,),
        required_slots=slots,
    )


@pytest.fixture
def pack(tmp_path) -> str:
    path = tmp_path / "last.toml"
    path.write_text(pack_text("en") + TEMPLATE)
    return str(path)


@dataclasses.dataclass(frozen=True)
class Leak:
    name: str = "last"

    def fill(self, inputs, write):
        return write((inputs.target,))


def renderer_of(split, names, pack: str, task: Task) -> Renderer:
    config = InstructionsConfig(tasks=(), packs=(pack,), own_tasks=(task,))
    return Renderer.build(split, config, names, seed=0, teacher=LogTeacher.of(split))


def render(split, titles, pack: str, task: Task) -> list[str]:
    renderer = renderer_of(split, titles, pack, task)
    return [renderer.record(number).inputs for number in range(len(renderer))]


def test_a_custom_slot_is_filled_from_the_history(split, titles, pack):
    prompts = render(split, titles, pack, task_with(LastItems()))
    assert prompts
    for prompt in prompts:
        named = [title for title in titles if f" {title} " in prompt]
        assert len(named) == 1, prompt


def test_only_events_with_a_history_are_targets(split, titles, pack):
    training_events_after_the_first = [3, 2, 0, 1, 0]
    prompts = render(split, titles, pack, task_with(LastItems()))
    assert len(prompts) == sum(training_events_after_the_first)


def test_a_slot_read_from_a_run_is_filled_by_its_class(split, titles, pack):
    task = task_with(LastItems(count=2))
    read = from_json(Task, to_json(task))
    (slot,) = read.required_slots
    assert isinstance(slot, ImportedSettings)
    assert slot_name(slot) == "last"
    assert render(split, titles, pack, read) == render(split, titles, pack, task)


def test_an_empty_text_is_refused_with_the_slot():
    with pytest.raises(InputError, match=r"slot \{last\}: there is no text for 3 items"):
        slot_filler(LastItems(count=0))(SlotInputs(history=(1, 2, 3)), str)


@pytest.mark.parametrize("name", ["history", "two words", ""])
def test_a_name_that_templates_cannot_use_is_refused(name):
    with pytest.raises(InputError, match="cannot be the name of a slot"):
        task_with(LastItems(name=name))


def test_two_slots_of_one_name_are_refused():
    with pytest.raises(InputError, match="'last' cannot be the name"):
        task_with(LastItems(), LastItems(count=2))


def test_what_is_not_a_slot_is_refused():
    task = object.__new__(Task)
    for field in dataclasses.fields(Task):
        value = {"required_slots": (Slot.HISTORY, 3)}.get(
            field.name, getattr(task_with(LastItems()), field.name)
        )
        object.__setattr__(task, field.name, value)
    with pytest.raises(InputError, match="3 is not a slot"):
        task.__post_init__()


def test_a_template_without_the_slot_is_refused(split, titles, pack):
    with pytest.raises(InputError, match=r"\{history\} occurs 0 times"):
        render(split, titles, pack, task_with(LastItems(), Slot.HISTORY))


@pytest.mark.parametrize("is_atomic", [True, False])
@pytest.mark.parametrize(
    ("slot", "findings"), [(LastItems(), set()), (Leak(), {Finding.TARGET.label})]
)
def test_the_audit_searches_the_text_for_the_answer(split, titles, pack, slot, findings, is_atomic):
    names = [f"<item_{n}>" for n in range(len(titles))] if is_atomic else titles
    renderer = renderer_of(split, names, pack, task_with(slot))
    audit = Auditor.build(renderer, split).audit(
        (number, renderer.record(number)) for number in range(len(renderer))
    )
    assert set(audit.found) == findings
