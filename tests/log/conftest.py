"""The real command line, in this process."""

import pytest

from irec_jax.cli.main import main
from irec_jax.log.events import BehaviorLog


@pytest.fixture
def prepare(tmp_path, capsys):
    """Runs `irec data prepare SOURCE PATH` and gives the log that it wrote."""

    def run(source, path, *options):
        out = tmp_path / "log-of-the-test"
        words = ("data", "prepare", source, path, "--out", out, "--overwrite", *options)
        code, said = main([str(word) for word in words]), capsys.readouterr()
        assert code == 0, said.err
        return BehaviorLog.load(out)

    return run


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs `irec data prepare SOURCE PATH`, which must fail with one message of these parts."""

    def run(source, path, *parts):
        out = tmp_path / "never-written"
        code = main(["data", "prepare", source, str(path), "--out", str(out)])
        said = capsys.readouterr()
        assert code == 2, said.out
        assert said.err.count("irec: error:") == 1
        assert "Hint:" in said.err
        for part in parts:
            assert part in said.err
        assert not out.exists()

    return run
