from pathlib import Path

import pytest

from ramda_cli.config.comparison import load_comparison
from ramda_cli.config.loading import dump_config, load_config, load_section
from ramda_cli.config.schema import DataConfig, RunConfig, TargetConfig
from ramda_cli.errors import ConfigError

BASE = {"model.name": "m", "data.name": "d", "target": "macs=0.5"}
REPOSITORY = Path(__file__).resolve().parents[2]
EVERY = sorted((REPOSITORY / "configs").rglob("*.yaml"))
COMPARISONS = [path for path in EVERY if "\nmethods:" in path.read_text()]
SHIPPED = [path for path in EVERY if path not in COMPARISONS]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def failure(path: Path | None, overrides: dict[str, object], sets: list[str]) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides, sets)
    assert "\n" not in str(caught.value)
    assert caught.value.hint is not None
    return str(caught.value), caught.value.hint


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_config_loads_and_round_trips(path: Path, tmp_path: Path) -> None:
    config = load_config(path, {}, ())
    assert load_config(write(tmp_path, dump_config(config)), {}, ()) == config


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.name)
def test_every_shipped_comparison_loads_and_no_other_command_takes_it(path: Path) -> None:
    assert load_comparison(path, {}, ()).runs
    message, hint = failure(path, {}, [])
    assert message == f"{path} compares methods, and is no run"
    assert hint == f"`ramda compare {path}` runs them; for one, take its settings out of methods"


def test_configs_are_shipped() -> None:
    assert {"digits.yaml", "resnet20.yaml"} <= {path.name for path in SHIPPED}


def test_every_setting_round_trips(tmp_path: Path) -> None:
    sets = [
        "model.weights=w.safetensors",
        "model.name='1e5'",
        "data.name='yes'",
        "data.input_key='12:30'",
        "structure.keep=[layer1*, 'a: b']",
        "training.milestones=[3, 7]",
        "training.eps=1e-7",
        "output.directory=päth/to",
    ]
    config = load_config(None, BASE, sets)
    assert config.model.name == "1e5"
    assert config.structure.keep == ("layer1*", "a: b")
    assert load_config(write(tmp_path, dump_config(config)), {}, ()) == config


def test_flags_override_the_file_and_sets_override_flags(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "model: {name: m}\ndata: {name: d}\ntarget: macs=0.5\n"
        "training: {epochs: 1, lr: 1e-3, seed: 7}\nstructure:\n",
    )
    overrides = {"training.epochs": 2, "training.lr": 0.1, "training.seed": None}
    config = load_config(path, overrides, ["training.epochs=3", "training.epochs=4"])
    assert (config.training.epochs, config.training.lr, config.training.seed) == (4, 0.1, 7)
    assert config.target == TargetConfig(macs=0.5)


def test_exponents_without_a_point_are_numbers() -> None:
    assert load_config(None, BASE, ["training.lr=1e-2"]).training.lr == 0.01


def test_one_part_of_a_written_target_can_be_set(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {name: m}\ndata: {name: d}\ntarget: macs=0.5\n")
    target = load_config(path, {}, ["target.macs=0.25", "target.size_mb=8"]).target
    assert target == TargetConfig(macs=0.25, size_mb=8.0)


def test_a_flag_replaces_the_files_other_way_to_say_how_much(tmp_path: Path) -> None:
    head = "model: {name: m}\ndata: {name: d}\n"
    path = write(tmp_path, head + "target: macs=0.5\n")
    config = load_config(path, {"training.weight": 1e-6}, ())
    assert (config.target, config.training.weight) == (None, 1e-6)
    path = write(tmp_path, head + "training: {weight: 1.0e-6}\n")
    config = load_config(path, {}, ["target=params=10M"])
    assert config.training.weight is None
    assert config.target == TargetConfig(params=1e7)


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        (
            "training.epochs=0",
            "training.epochs must be an integer of at least 1, got 0",
            "the default is 10",
        ),
        (
            "training.epochs=2.5",
            "training.epochs must be an integer of at least 1, got 2.5",
            "the default is 10",
        ),
        (
            "training.epochs=true",
            "training.epochs must be an integer of at least 1, got true",
            "the default is 10",
        ),
        (
            "training.epochs=",
            "training.epochs must be an integer of at least 1, got nothing",
            "the default is 10",
        ),
        (
            "training.lr=0",
            "training.lr must be a number above 0, got 0",
            "leave it out for the default",
        ),
        (
            "training.lr=.inf",
            "training.lr must be a number above 0, got inf",
            "leave it out for the default",
        ),
        (
            "training.momentum=1.5",
            "training.momentum must be a number in (0, 1], got 1.5",
            "the default is 0.1",
        ),
        (
            "structure.floor=1",
            "structure.floor must be a number in [0, 1), got 1",
            "the default is 0.1",
        ),
        (
            "training.gamma=1",
            "training.gamma must be a number of at least 1.01, got 1",
            "the default is 3.0",
        ),
        (
            "training.precision=fp64",
            "training.precision must be one of fp32, bf16, fp16, got 'fp64'",
            "the default is 'fp32'",
        ),
        (
            "training.device=gpu",
            "training.device must be auto, cpu, cuda or cuda:N, got 'gpu'",
            "the default is 'auto'",
        ),
        (
            "output.onnx=1",
            "output.onnx must be true or false, got 1",
            "the default is true",
        ),
        ("data.name=12", "data.name must be text, got 12", None),
        ("data.name=''", "data.name must be text, got ''", None),
        (
            "data.image_size=4",
            "data.image_size must be an integer of at least 8, got 4",
            "leave it out for the default",
        ),
        (
            "structure.keep=layer1",
            "structure.keep must be a list, each text, got 'layer1'",
            "the default is []",
        ),
        (
            "training.milestones=[1, 0]",
            "training.milestones must be a list, each an integer of at least 1, got 0",
            "the default is []",
        ),
        ("model.weights=3", "model.weights must be a path, got 3", "leave it out for the default"),
        ("training=5", "training must be a section of settings, got 5", None),
        (
            "target.macs=1.5",
            "target.macs must be a share in (0, 1] or a whole count above 1, got 1.5",
            "leave it out for the default",
        ),
        (
            "target.latency=-3",
            "target.latency must be a share in (0, 1] or milliseconds above 1, got -3",
            "leave it out for the default",
        ),
    ],
)
def test_types_and_ranges_are_named(item: str, message: str, hint: str | None) -> None:
    found = failure(None, BASE, [item])
    assert found[0] == message
    assert hint is None or found[1] == hint


@pytest.mark.parametrize(
    ("item", "message", "hint"),
    [
        (
            "training.epoch=5",
            "unknown setting 'training.epoch'",
            "did you mean 'training.epochs'?",
        ),
        ("epochs=5", "unknown setting 'epochs'", "did you mean 'training.epochs'?"),
        ("name=x", "unknown setting 'name'", "did you mean 'model.name'?"),
        ("trainng.lr=1", "unknown setting 'trainng'", "did you mean 'training'?"),
        ("model.lr=1", "unknown setting 'model.lr'", "did you mean 'training.lr'?"),
        (
            "output.xyzzy=1",
            "unknown setting 'output.xyzzy'",
            "output has directory, overwrite, onnx, checkpoint_minutes, bench, report_to,"
            " push_to_hub, public",
        ),
        (
            "xyzzy=1",
            "unknown setting 'xyzzy'",
            "the sections are model, data, structure, training, target, output",
        ),
    ],
)
def test_unknown_keys_are_suggested(item: str, message: str, hint: str) -> None:
    assert failure(None, BASE, [item]) == (message, hint)


@pytest.mark.parametrize("item", ["training.epochs", "=5", ""])
def test_a_set_without_key_or_value_is_named(item: str) -> None:
    assert failure(None, BASE, [item]) == (
        f"--set needs KEY=VALUE, got {item!r}",
        "for example --set training.epochs=5",
    )


def test_a_set_that_is_not_yaml_is_named() -> None:
    message, _ = failure(None, BASE, ["structure.keep=[a"])
    assert message.startswith("not valid YAML: --set structure.keep=[a, line 1: ")


def test_a_key_below_a_value_is_named() -> None:
    assert failure(None, BASE, ["model.name.x=1"]) == (
        "model.name.x cannot be set: model.name is not a section",
        "set model.name itself",
    )


def test_model_and_data_are_required() -> None:
    assert failure(None, {"target": "macs=0.5"}, []) == (
        "model.name is required",
        "give MODEL, for example `ramda prune resnet50 ...`, or model.name in the config",
    )
    assert failure(None, {"target": "macs=0.5", "model.name": "m"}, []) == (
        "data.name is required",
        "give --data, for example --data digits, or data.name in the config",
    )


def test_exactly_one_of_target_and_weight() -> None:
    assert failure(None, {**BASE, "training.weight": 1e-6}, []) == (
        "target and training.weight exclude each other",
        "give --target to ask for a size, or --weight to set the regularization",
    )
    assert failure(None, {"model.name": "m", "data.name": "d"}, []) == (
        "nothing says how small the model must become",
        "give --target macs=0.5 to keep half of the MACs, or --weight 1e-4",
    )


def test_a_regularizer_goes_with_a_weight(tmp_path: Path) -> None:
    named = {**BASE, "target": None, "training.weight": 1e-4, "training.regularizer": "group-mcp"}
    config = load_config(None, named, ["training.gamma=1.5"])
    assert (config.training.regularizer, config.training.gamma) == ("group-mcp", 1.5)
    assert load_config(write(tmp_path, dump_config(config)), {}, ()) == config
    assert failure(None, {**BASE, "training.regularizer": "group-mcp"}, []) == (
        "training.regularizer group-mcp plays no part with a target, which shrinks nothing",
        "give --weight in place of --target, or --regularizer group-lasso",
    )


@pytest.mark.parametrize("epochs", ["5, 3", "3, 3", "10", "4, 12"])
def test_milestones_lie_inside_the_run(epochs: str) -> None:
    assert failure(None, BASE, [f"training.milestones=[{epochs}]"]) == (
        f"training.milestones must be increasing epochs below training.epochs (10), got {epochs}",
        "for example --milestones 5",
    )


def test_unreadable_config_files_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert failure(missing, {}, []) == (
        f"config file not found: {missing}",
        "check the path given to --config",
    )
    assert failure(tmp_path, {}, []) == (
        f"config file {tmp_path} cannot be read: Is a directory",
        "--config needs a YAML file",
    )
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert failure(binary, {}, [])[0] == (
        f"config file {binary} cannot be read: it is not UTF-8 text"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  lr: [1\n", "not valid YAML: {}, line 3: "),
        ("a: 1\n", "unknown setting 'a'"),
        ("- a\n", "config file {} must hold sections such as model and data"),
        ("data: {name: d}\ndata: {name: e}\n", "not valid YAML: {}, line 1: 'data' is given twice"),
        ("a: !!python/object:os.system {}\n", "not valid YAML: {}, line 1: "),
        ("a: \x07\n", "not valid YAML: {}: "),
        ("[" * 5000, "not valid YAML: {}: "),
        ("target: 0.5\n", "target must be a section of settings, got 0.5"),
        ("a: 2024-13-77\n", "not valid YAML: {}: month must be in 1..12"),
    ],
)
def test_broken_config_files_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    overrides: dict[str, object] = {"model.name": "m", "data.name": "d"}
    found = failure(path, overrides, [])[0]
    assert found.startswith(message.replace("{}", str(path), 1))


def test_an_empty_file_is_an_empty_config(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "# nothing\n"), BASE, ()) == load_config(None, BASE, ())


def test_a_section_alone_is_checked_with_its_name() -> None:
    data = load_section(DataConfig, "data", {"name": "digits", "batch_size": None})
    assert data == DataConfig(name="digits")
    with pytest.raises(ConfigError, match=r"^data\.workers must be an integer of at least 0"):
        load_section(DataConfig, "data", {"name": "digits", "workers": -1})


def test_a_run_config_is_frozen() -> None:
    config = load_config(None, BASE, ())
    assert isinstance(config, RunConfig)
    with pytest.raises(ValueError, match="frozen"):
        config.training = config.training  # type: ignore[misc]
