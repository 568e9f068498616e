"""`unloc demo` refuses what cannot work before a model is loaded."""

import importlib.util


def test_what_is_missing_is_told_at_once(unloc, monkeypatch):
    assert "--checkpoint DIR, or --clip SRC" in unloc("demo").error()
    assert "only a --checkpoint has tasks" in unloc("demo", "--clip=x", "--task=y").error()
    assert "--max-minutes must be above 0" in unloc("demo", "--clip=x", "--max-minutes=nan").error()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else found(name))
    assert "pip install 'unloc_jax[demo]'" in unloc("demo", "--clip=x").error()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found("json" if name == "gradio" else name))
    assert "x is " in unloc("demo", "--clip=x").error()
