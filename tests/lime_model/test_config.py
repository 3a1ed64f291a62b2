import json

import pytest

from lime_model.config import ModelConfig, TrainConfig
from schemas.errors import ConfigError


@pytest.mark.parametrize("config", [ModelConfig(links=4, head="mlp"), TrainConfig(steps=7, label_smoothing=0.1)])
def test_json_round_trip_keeps_every_field(config: ModelConfig | TrainConfig) -> None:
    assert type(config).from_json(json.loads(config.dumps())) == config


@pytest.mark.parametrize("kind", [ModelConfig, TrainConfig])
def test_an_unknown_key_is_an_error_that_names_it(kind: type[ModelConfig] | type[TrainConfig]) -> None:
    with pytest.raises(ConfigError, match="lnks"):
        kind.from_json({"lnks": 4})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 0),
        ("heads", 3),
        ("head", "cosine"),
        ("dropout", 1.0),
        ("max_history", 1),
        ("rank_bounds", [2, 1]),
        ("time_bounds_s", []),
        ("buckets", 0),
        ("layers", "2"),
        ("use_times", 1),
        ("links", True),
        ("links", 4.0),
    ],
)
def test_a_bad_model_setting_is_named(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name if name != "heads" else "width"):
        ModelConfig.from_json({name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("learning_rate", 0.0), ("average_decay", 1.0), ("margin", -0.1), ("seed", -1), ("patience", 0)],
)
def test_a_bad_training_setting_is_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        TrainConfig.from_json({name: value})


def test_the_score_width_follows_the_head() -> None:
    widths = [ModelConfig(width=8, head=head, mlp_width=5).score_width for head in ("linear", "dot", "mlp")]
    assert widths == [1, 8, 5]


def test_an_integer_is_a_number_where_a_fraction_is_expected() -> None:
    assert TrainConfig.from_json({"learning_rate": 1}).learning_rate == 1


def test_a_training_window_follows_what_reads_it() -> None:
    assert ModelConfig(max_history=50).window == (100, 50)
    assert ModelConfig(kind="hstu", links=1, max_history=50).window == (50, 25)
