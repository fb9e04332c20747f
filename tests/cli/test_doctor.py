"""`irec doctor`: it reports this machine, computes, and says what to fix."""

import os

import pytest

from irec_jax.cli import doctor
from irec_jax.cli.main import main
from irec_jax.planning import host_speed


def test_it_reports_versions_devices_and_speeds(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for part in ("Python 3", "jax 0.", "8 of cpu (cpu)", "GFLOP/s", "over 8 devices", "GiB free"):
        assert part in printed
    assert "Ready." in printed


@pytest.mark.parametrize("name", ["time_product", "time_collective"])
def test_a_device_that_does_not_compute_is_a_failure(name, capsys, monkeypatch):
    def fail():
        raise RuntimeError("INTERNAL: out of order\nstack")

    monkeypatch.setattr(doctor, name, fail)
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "INTERNAL: out of order" in printed
    assert "Not ready:" in printed


def test_a_wrong_product_is_noticed(monkeypatch):
    monkeypatch.setattr(host_speed.jnp, "matmul", lambda a, b, precision: a @ b + 1)
    with pytest.raises(ArithmeticError, match="the product is off by 1"):
        doctor.time_product()


def test_a_wrong_sum_is_noticed(monkeypatch):
    add = doctor.jax.lax.psum
    monkeypatch.setattr(doctor.jax.lax, "psum", lambda part, axis: add(part, axis) + 1)
    with pytest.raises(ArithmeticError, match=r"the sum of 8 ones is 9\.0"):
        doctor.time_collective()


@pytest.mark.parametrize(
    ("file", "package"), [("/dev/nvidiactl", "jax[cuda12]"), ("/dev/accel0", "irec-jax[tpu]")]
)
def test_an_accelerator_that_is_not_used_is_noted(file, package):
    assert package in doctor.unused_accelerator("cpu", lambda path: path == file)
    assert doctor.unused_accelerator("tpu", lambda path: True) == ""
    assert doctor.unused_accelerator("cpu", lambda path: False) == ""


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path, monkeypatch):
    assert not doctor.check_disk(tmp_path).is_failure
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert doctor.check_disk(tmp_path).is_failure


def test_little_memory_is_noted():
    assert "4 GiB" in doctor.check_memory_size(2**31).problem
    assert doctor.check_memory_size(2**35).problem == ""
