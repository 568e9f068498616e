"""How differences between the processes of a run are described."""

import dataclasses

from tests.tiny import tiny_config
from unloc_jax import agreement
from unloc_jax.agreement import differences
from unloc_jax.config.schema import Config
from unloc_jax.training.facts import config_facts


def test_who_differs_in_what():
    facts = [
        {"a": i in (1, 4), "b": [1, 2], "of some": i} if i != 2 else {"a": False, "b": [1, 2]}
        for i in range(6)
    ]
    facts[0].pop("of some")
    message = differences([{k: v for k, v in of.items() if k != "of some"} for of in facts])
    assert message.startswith(
        "the processes of this run do not agree: a is false in processes 0, 2-3, 5, true in processes 1, 4. Start "
    )
    assert differences(facts[:1] * 3) == ""
    assert differences([{"x": 1}, {}, {"x": 1}]) == "" != differences([{"x": 1}, {}, {"x": 2}])
    assert "; and 2 more. " in differences([dict.fromkeys("abcdef", value) for value in (1, 2)])


def test_long_values_are_shortened_but_told_apart():
    long = ["x" * 200 + end for end in "ab"]
    message = differences([{"texts": text} for text in long])
    assert len(message) < 400 and message.count("…") == 2


def test_versions_are_those_of_what_computes():
    assert {"Python", "jax", "flax", "the code of unloc_jax"} <= agreement.versions().keys()


def test_every_setting_counts_but_places_and_ways_of_reading(tmp_path):
    """Also those that are added later."""
    config = tiny_config(data={"dir": "a"})
    changed = lambda **of: dataclasses.replace(config, data=dataclasses.replace(config.data, **of))
    assert config_facts(config) == config_facts(changed(dir="b", num_workers=9, stall_s=5.0))
    assert config_facts(config) != config_facts(changed(dir=""))
    assert config_facts(config) != config_facts(changed(mirror=not config.data.mirror))
    top = {field.name for field in dataclasses.fields(Config)}
    assert {key.split(".")[1] for key in config_facts(config)} == top
    for content in ("1", "2"):
        (tmp_path / content).write_text(content)
    text = lambda name: dataclasses.replace(config.model.text, embeddings_file=str(tmp_path / name))
    of = [
        config_facts(dataclasses.replace(config, model=dataclasses.replace(config.model, text=text(name))))
        for name in "12"
    ]
    assert len([key for key in of[0] if of[0][key] != of[1][key]]) == 1
