import pytest

from irec_jax.errors import InputError
from irec_jax.log.dataset import DataConfig, load_log, load_split
from irec_jax.log.simulate import SimulateConfig
from irec_jax.log.split import Role, SplitProtocol

pytestmark = pytest.mark.fast

SMALL = SimulateConfig(users=60, items=100)


def test_the_embedded_default_equals_what_is_saved_and_loaded(tmp_path):
    config = DataConfig(simulate=SMALL, core=2)
    log = load_log(config)
    assert log.manifest.source == "simulated"
    log.save(tmp_path / "log")
    prepared = DataConfig(log=str(tmp_path / "log"), core=2)
    one, two = load_split(config, seed=3), load_split(prepared, seed=3)
    assert one.items.tolist() == two.items.tolist()
    assert one.queries == two.queries
    assert one.catalog.equals(two.catalog)
    # The experiment's seed numbers the items; it never changes what users did.
    assert load_log(config).interactions.equals(log.interactions)
    assert load_split(config, seed=4).items.tolist() != one.items.tolist()


@pytest.mark.parametrize("protocol", list(SplitProtocol))
def test_the_embedded_default_has_targets_of_every_role(protocol):
    split = load_split(DataConfig(simulate=SMALL, protocol=protocol), seed=0)
    for role in Role:
        assert len(split.targets(role)) > 0
    assert {0, 1, 2} == set(split.intentions.tolist())
    assert split.warm_items().any()


def test_wrong_settings_are_refused_with_their_key():
    with pytest.raises(InputError, match=r"data\.log"):
        DataConfig(log="")
    with pytest.raises(InputError, match=r"data\.core"):
        DataConfig(core=0)
    with pytest.raises(InputError, match="no such folder"):
        load_split(DataConfig(log="nowhere"), seed=0)
