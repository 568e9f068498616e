import pytest

from tests.training.toy_run import use_toys


@pytest.mark.slow
def test_a_profile_of_some_steps(unloc, tmp_path, monkeypatch):
    """Steps 3 to 5 of 8, in the middle of nothing that is logged; TensorBoard's profile plugin finds it by its path."""
    use_toys(monkeypatch.setattr)
    settings = ("train.steps=8", "profile=(3,5)", "log_every_steps=100")
    words = ["train", "--config=tests/training/toy_run.py", f"--workdir={tmp_path / 'run'}"]
    ran = unloc(*words, *(f"--config.{setting}" for setting in settings)).ok()
    (line,) = [
        line for line in ran.err.splitlines() if line.startswith("profile of the steps from 3 to 5 is in")
    ]
    assert f"xprof --logdir={tmp_path / 'run' / 'profile'}" in line
    (trace,) = (tmp_path / "run" / "profile").glob("plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 1000
