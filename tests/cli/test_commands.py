import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from ramda_cli.config.schema import (
    DataConfig,
    ModelConfig,
    RemoveConfig,
    RunConfig,
    StructureConfig,
)
from ramda_cli.report.plain import build_benchmark, build_inspection, build_report
from tests.cli.conftest import BENCH, RESULT, SWEEP, FakePipeline, write_pruned
from tests.report.sample import BENCHMARK, INSPECTION, REPORT, UNTRAINED

Run = Callable[..., Result]
EVERY_FLAG = """
prune m --weights w.safetensors --no-pretrained --data d --data-dir dd --train-split a
--val-split b --input-key x --target-key y --batch-size 8 --workers 0 --image-size 32 --limit 100
--augment rand-m9 --random-erasing 0.25 --mixup 0.2 --cutmix 1
--target params=10M --target size-mb=9.5 --penalize paper --keep layer1* --keep fc --residual
--floor 0.2 --method taylor --epochs 9
--round-to 8 --layout uniform --lr 0.5
--momentum 0.3 --distill 0.9 --precision bf16 --device cuda:1 --seed 4 --milestones 3,6 -o o
--overwrite
--no-onnx --no-bench --push-to-hub org/name --public --set training.eps=1e-7
"""
FROM_FLAGS = {
    "model": {"name": "m", "weights": "w.safetensors", "pretrained": False},
    "data": {
        "name": "d",
        "data_dir": "dd",
        "train_split": "a",
        "val_split": "b",
        "input_key": "x",
        "target_key": "y",
        "batch_size": 8,
        "workers": 0,
        "image_size": 32,
        "limit": 100,
        "augment": "rand-m9",
        "random_erasing": 0.25,
    },
    "structure": {
        "penalize": "paper",
        "keep": ["layer1*", "fc"],
        "residual": True,
        "floor": 0.2,
        "round_to": 8,
        "layout": "uniform",
    },
    "training": {
        "method": "taylor",
        "epochs": 9,
        "lr": 0.5,
        "momentum": 0.3,
        "distill": 0.9,
        "mixup": 0.2,
        "cutmix": 1.0,
        "eps": 1e-7,
        "milestones": [3, 6],
        "precision": "bf16",
        "device": "cuda:1",
        "seed": 4,
    },
    "target": {"params": 1e7, "size_mb": 9.5},
    "output": {
        "directory": "o",
        "overwrite": True,
        "onnx": False,
        "bench": False,
        "push_to_hub": "org/name",
        "public": True,
    },
}


def test_every_flag_of_prune_arrives(ramda: Run, pipeline: FakePipeline) -> None:
    result = ramda(*EVERY_FLAG.split())
    assert result.exit_code == 0, result.stderr
    assert pipeline.calls == [((RunConfig.model_validate(FROM_FLAGS),), {})]


def test_no_flag_leaves_the_defaults(ramda: Run, pipeline: FakePipeline) -> None:
    assert ramda("prune", "m", "--data", "d", "--weight", "1e-6").exit_code == 0
    (config,), _ = pipeline.calls[0]
    assert config == RunConfig.model_validate(
        {"model": {"name": "m"}, "data": {"name": "d"}, "training": {"weight": 1e-6}}
    )


def test_flags_override_the_config_file(ramda: Run, pipeline: FakePipeline, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: {name: m, pretrained: false}\ndata: {name: d}\ntarget: macs=0.5\n"
        "structure: {keep: [a]}\noutput: {onnx: false}\n"
    )
    assert ramda("prune", "--config", str(path), "--pretrained", "--onnx").exit_code == 0
    (config,), _ = pipeline.calls[0]
    assert config.model.pretrained
    assert config.output.onnx
    assert config.structure.keep == ("a",)


def test_prune_prints_the_report_and_progress_apart(ramda: Run, pipeline: FakePipeline) -> None:
    result = ramda("prune", "m", "--data", "d", "--target", "macs=0.5")
    assert "50.0 % of the MACs, 51.4 % of the parameters" in result.stdout
    assert "noise" not in result.stdout
    assert result.stderr.splitlines() == [
        "start: loading libraries",
        "load: m",
        "note: one note",
        "noise of a library",
    ]


@pytest.mark.parametrize(
    ("args", "document"),
    [
        (("prune", "m", "--data", "d", "--target", "macs=0.5"), build_report(REPORT)),
        (("inspect", "m"), build_inspection(INSPECTION)),
        (("eval", "f", "--data", "d"), RESULT),
        (("bench", "f"), build_benchmark(BENCHMARK)),
    ],
)
def test_json_is_alone_on_stdout(
    ramda: Run, pipeline: FakePipeline, args: tuple[str, ...], document: dict[str, object]
) -> None:
    result = ramda(*args, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == document


def test_json_is_alone_on_the_real_stdout(tmp_path: Path) -> None:
    script = """
import sys
from tests.cli.conftest import FakePipeline
fake = FakePipeline()
sys.modules["ramda_cli.pipeline"] = fake
from ramda_cli.cli.app import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "prune", "m", "--data", "d", "--weight", "1e-6", "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert json.loads(done.stdout) == build_report(REPORT)
    assert "noise of a library" in done.stderr


@pytest.mark.parametrize(
    ("args", "stderr"),
    [
        (
            ("m", "--data", "d"),
            "error: nothing says how small the model must become\n"
            "hint: give --target macs=0.5 to keep half of the MACs, or --weight 1e-4\n",
        ),
        (
            ("m", "--data", "d", "--target", "macs=0.5", "--weight", "1e-6"),
            "error: target and training.weight exclude each other\n"
            "hint: give --target to ask for a size, or --weight to set the regularization\n",
        ),
        (
            ("m", "--data", "d", "--target", "macs=0.5", "--regularizer", "group-mcp"),
            "error: training.regularizer group-mcp plays no part with a target, which shrinks"
            " nothing\n"
            "hint: give --weight in place of --target, or --regularizer group-lasso\n",
        ),
        (
            ("m", "--data", "d", "--target", "foo"),
            "error: target must be METRIC=AMOUNT with METRIC one of macs, params, channels,"
            " heads, ffn, body-macs, body-params, size-mb, latency, got 'foo'\n"
            "hint: for example --target macs=0.5 for half of the MACs, or --target params=10M\n",
        ),
        (
            ("m", "--data", "d", "--target", "macs=1.5"),
            "error: target macs must be a share in (0, 1] or a whole count above 1, got '1.5'\n"
            "hint: an amount above 1 is a count; a share is at most 1\n",
        ),
        (
            ("m", "--data", "d", "--epochs", "0"),
            "error: training.epochs must be an integer of at least 1, got 0\n"
            "hint: the default is 10\n",
        ),
        (
            ("m", "--data", "d", "--set", "training.epoch=5"),
            "error: unknown setting 'training.epoch'\nhint: did you mean 'training.epochs'?\n",
        ),
        (
            ("--data", "d", "--target", "macs=0.5"),
            "error: model.name is required\n"
            "hint: give MODEL, for example `ramda prune resnet50 ...`,"
            " or model.name in the config\n",
        ),
        (
            ("m", "--target", "macs=0.5"),
            "error: data.name is required\n"
            "hint: give --data, for example --data digits, or data.name in the config\n",
        ),
        (
            ("m", "--data", "d", "--milestones", "3;6"),
            "error: --milestones must be epochs separated by commas, got '3;6'\n"
            "hint: for example --milestones 30,60\n",
        ),
        (
            ("--config", "no.yaml"),
            "error: config file not found: no.yaml\nhint: check the path given to --config\n",
        ),
        (
            ("m", "--data", "d", "--target", "macs=0.5", "--device", "gpu"),
            "error: training.device must be auto, cpu, cuda or cuda:N, got 'gpu'\n"
            "hint: the default is 'auto'\n",
        ),
    ],
)
def test_prune_names_what_is_wrong(
    ramda: Run, pipeline: FakePipeline, args: tuple[str, ...], stderr: str
) -> None:
    result = ramda("prune", *args)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", stderr)
    assert pipeline.calls == []


def test_inspect_calls_the_pipeline(ramda: Run, pipeline: FakePipeline) -> None:
    args = "inspect m --weights w --no-pretrained --image-size 64 --penalize paper --keep a*"
    args += " --spectra"
    result = ramda(*args.split())
    assert "32 channels can be removed" in result.stdout
    model = ModelConfig(name="m", weights=Path("w"), pretrained=False)
    structure = StructureConfig(penalize="paper", keep=("a*",))
    ((positional, keywords),) = pipeline.calls
    assert positional == (model, structure)
    assert keywords.pop("observer") is not None
    assert keywords == {"image_size": 64, "max_length": None, "with_spectra": True}


@pytest.mark.parametrize(("suffix", "start"), [(".svg", "<?xml"), (".html", "<!doctype html>")])
def test_inspect_draws_a_picture(
    ramda: Run, pipeline: FakePipeline, tmp_path: Path, suffix: str, start: str
) -> None:
    path = tmp_path / f"structure{suffix}"
    result = ramda("inspect", "m", "--graph", str(path), "--json")
    assert json.loads(result.stdout) == build_inspection(INSPECTION)
    assert path.read_text(encoding="utf-8").startswith(start)


def test_inspect_names_a_picture_that_it_cannot_draw(
    ramda: Run, pipeline: FakePipeline, tmp_path: Path
) -> None:
    result = ramda("inspect", "m", "--graph", "structure.png")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --graph structure.png is neither .svg nor .html\n"
        "hint: for example --graph structure.svg\n",
    )
    assert pipeline.calls == []
    missing = tmp_path / "missing" / "structure.svg"
    result = ramda("inspect", "m", "--graph", str(missing))
    assert result.exit_code == 1
    assert f"error: cannot write {missing}: No such file or directory\n" in result.stderr


def test_inspect_names_a_bad_image_size(ramda: Run, pipeline: FakePipeline) -> None:
    result = ramda("inspect", "m", "--image-size", "4")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: data.image_size must be an integer of at least 8, got 4\n"
        "hint: leave it out for the default\n"
    )


def test_eval_calls_the_pipeline(ramda: Run, pipeline: FakePipeline, pruned: Path) -> None:
    args = "--data d --val-split v --batch-size 16 --device cpu"
    result = ramda("eval", str(pruned.parent), *args.split())
    assert result.stdout == (
        "top-1 accuracy 98.89 % on 360 images in 0.4 s: digits: 360 validation images\n"
    )
    data = DataConfig(name="d", val_split="v", eval_batch_size=16)
    assert pipeline.calls == [((pruned, data), {"device": "cpu"})]


def test_every_flag_of_remove_arrives(ramda: Run, pipeline: FakePipeline) -> None:
    flags = """
    remove w.safetensors --model m --data d --data-dir dd --train-split a --val-split b
    --input-key x --target-key y --batch-size 8 --workers 0 --image-size 32 --keep layer1* --keep fc
    -o o --overwrite --no-onnx --json
    """
    result = ramda(*flags.split())
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == build_report(UNTRAINED)
    data = {
        "name": "d", "data_dir": "dd", "train_split": "a", "val_split": "b", "input_key": "x",
        "target_key": "y", "eval_batch_size": 8, "workers": 0, "image_size": 32,
    }  # fmt: skip
    given = {
        "checkpoint": "w.safetensors",
        "model": "m",
        "image_size": 32,
        "data": data,
        "keep": ["layer1*", "fc"],
        "output": {"directory": "o", "overwrite": True, "onnx": False},
    }
    assert pipeline.calls == [((RemoveConfig.model_validate(given),), {})]


@pytest.mark.parametrize(
    ("flags", "key"), [(("--image-size", "4"), "data.image_size"), (("--model", ""), "model.name")]
)
def test_remove_names_a_bad_value(
    ramda: Run, pipeline: FakePipeline, flags: tuple[str, str], key: str
) -> None:
    result = ramda("remove", "w.safetensors", *flags)
    assert result.exit_code == 2
    assert f"error: {key} must be" in result.stderr
    assert pipeline.calls == []


def test_remove_needs_a_checkpoint_alone(ramda: Run, pipeline: FakePipeline) -> None:
    result = ramda("remove", "bert")
    assert pipeline.calls == [((RemoveConfig(checkpoint=Path("bert")),), {})]
    assert "50.0 % of the MACs, 51.4 % of the parameters; proof passed" in result.stdout
    assert "load: bert" in result.stderr


def test_report_reads_the_file_alone(ramda: Run, pruned: Path) -> None:
    for path in (pruned, pruned.parent):
        result = ramda("report", str(path))
        assert result.exit_code == 0
        assert "50.0 % of the MACs, 51.4 % of the parameters" in result.stdout
    for flags in (["--json"], ["--format", "json"]):
        result = ramda("report", str(pruned), *flags)
        assert json.loads(result.stdout) == build_report(REPORT)


def test_report_imports_no_torch(pruned: Path) -> None:
    script = """
import sys
from ramda_cli.cli.app import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "report", str(pruned)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() == "False"


def test_report_names_other_files(ramda: Run, tmp_path: Path) -> None:
    path = tmp_path / "x"
    result = ramda("report", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {path} cannot be read: No such file or directory\n"
        "hint: give the model.safetensors that `ramda prune` wrote, or its directory\n"
    )


def test_an_encoding_that_lacks_a_name_does_not_end_the_run(tmp_path: Path) -> None:
    named = replace(REPORT, model=replace(REPORT.model, name="mod\u00e8le"))
    path = write_pruned(tmp_path / "model.safetensors", named)
    script = "from ramda_cli.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "report", str(path)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert b"mod\\xe8le" in done.stdout


def test_bench_passes_its_flags(ramda: Run, pipeline: FakePipeline, pruned: Path) -> None:
    flags = "--runtime eager --runtime compile --batch-size 1 --batch-size 64 --device cpu"
    flags += " --threads 3 --seconds 5 --dense net.py:build"
    # A flag may come first: what is no command is for the file.
    result = ramda("bench", *flags.split(), str(pruned.parent))
    assert result.exit_code == 0, result.stderr
    assert "torch: 1.82x faster (1.79 to 1.86) at batch 32" in result.stdout
    assert "noise" not in result.stdout
    options = {
        "device": "cpu",
        "runtimes": ["eager", "compile"],
        "batch_sizes": [1, 64],
        "threads": 3,
        "seconds": 5.0,
        "dense": "net.py:build",
    }
    assert pipeline.calls == [((pruned,), options)]


def test_bench_leaves_the_rest_to_its_defaults(ramda: Run, pipeline: FakePipeline) -> None:
    assert ramda("bench", "f").exit_code == 0
    options = {
        "device": "auto",
        "runtimes": [],
        "batch_sizes": [],
        "threads": None,
        "seconds": 20.0,
        "dense": None,
    }
    assert pipeline.calls == [((Path("f"),), options)]


def test_bench_alone_lists_what_it_measures(ramda: Run) -> None:
    for args, code in (((), 2), (("-h",), 0)):
        result = ramda("bench", *args)
        assert (result.exit_code, result.stderr) == (code, "")
        assert "Usage: ramda bench (FILE | optimizer) [OPTIONS]" in result.stdout
        assert "optimizer  Time RAMDA's steps" in result.stdout
    for command in ("FILE", "optimizer"):
        result = ramda("bench", command, "-h")
        assert f"Usage: ramda bench {command} [OPTIONS] " in result.stdout


@pytest.mark.parametrize(
    ("flags", "error", "hint"),
    [
        (
            "--runtime tf",
            "invalid value for '--runtime': 'tf' is not one of 'eager', 'compile', 'onnx'",
            "`ramda bench FILE --help` lists what it takes",
        ),
        (
            "--device gpu",
            "training.device must be auto, cpu, cuda or cuda:N, got 'gpu'",
            "the default is 'auto'",
        ),
    ],
)
def test_bench_names_what_is_wrong(
    ramda: Run, pipeline: FakePipeline, flags: str, error: str, hint: str
) -> None:
    result = ramda("bench", "f", *flags.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {error}\nhint: {hint}\n"
    assert pipeline.calls == []


def test_bench_optimizer_passes_its_flags(ramda: Run, pipeline: FakePipeline) -> None:
    flags = "--model m --device cpu --batch-size 3 --image-size 32 --rounds 5 --warm-up 7"
    result = ramda(
        "bench",
        "optimizer",
        *flags.split(),
        "--weight",
        "0.1",
        "--reference",
        "--low-rank",
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == BENCH
    ((arguments, options),) = pipeline.calls
    assert arguments == (ModelConfig(name="m", pretrained=False),)
    assert options == {
        "device": "cpu",
        "batch": 3,
        "image_size": 32,
        "rounds": 5,
        "warm_up": 7,
        "weight": 0.1,
        "reference": True,
        "low_rank": True,
    }


def test_bench_optimizer_prints_a_table(ramda: Run, pipeline: FakePipeline) -> None:
    result = ramda("bench", "optimizer", "--model", "m")
    assert result.exit_code == 0, result.stderr
    assert "a step of RAMDA costs 1.50 times one of AdamW" in result.stdout


def test_check_prints_every_line_and_exits_3(ramda: Run, pruned: Path, tmp_path: Path) -> None:
    written = tmp_path / "check.xml"
    demands = "--max-params 1M --max-macs 1M --max-drop 0.5 --min-metric 0.9 --max-size-mb 1"
    result = ramda("check", str(pruned.parent), *demands.split(), "--junit", str(written))
    assert result.exit_code == 3
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["passed", "proof"],
        ["passed", "max-params"],
        ["FAILED", "max-macs"],
        ["passed", "max-size-mb"],
        ["passed", "max-drop"],
        ["passed", "min-metric"],
    ]
    assert result.stderr.startswith(
        "error: max-macs does not hold: 20.5 M MACs; at most 1.00 M\nhint: "
    )
    assert 'failures="1"' in written.read_text()


def test_check_exits_0_when_all_hold(ramda: Run, pruned: Path) -> None:
    result = ramda("check", str(pruned), "--max-macs", "2G", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["passed"] is True


def test_check_judges_the_latency_of_the_file(
    ramda: Run, pipeline: FakePipeline, pruned: Path
) -> None:
    result = ramda("check", str(pruned), "--min-speedup", "1.9", "--max-latency-ms", "1")
    assert result.exit_code == 3
    assert result.stdout.splitlines()[1:] == [
        "FAILED  min-speedup     1.82x (1.79 to 1.86) at batch 32; at least 1.9x",
        "passed  max-latency-ms  0.750 ms (nine of ten below 0.850 ms) at batch 1; at most 1 ms",
    ]
    assert pipeline.calls == []


def test_check_measures_when_asked_to(ramda: Run, pipeline: FakePipeline, tmp_path: Path) -> None:
    path = write_pruned(tmp_path / "old.safetensors", replace(REPORT, latency=None))
    demand = ("--min-speedup", "1.5")
    result = ramda("check", str(path), *demand)
    assert (result.exit_code, result.stderr) == (
        2,
        "error: the report has no latency\nhint: measure it with --measure\n",
    )
    more = ("--measure", "--batch-size", "32", "--device", "cpu", "--json")
    result = ramda("check", str(path), *demand, *more)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["checks"][1]["name"] == "min-speedup"
    options = {"device": "cpu", "runtimes": ["eager"], "batch_sizes": [32]}
    assert pipeline.calls == [((path,), options)]


@pytest.mark.parametrize(
    ("flags", "message", "example"),
    [
        ("--min-metric 75", "is a share in [0, 1], got 75", "--min-metric 0.75"),
        (
            "--max-params ten",
            "must be a whole count, got 'ten'",
            "--max-params 10M or --max-params 2G",
        ),
        ("--max-macs 0.5", "must be a whole count, got '0.5'", "--max-macs 10M or --max-macs 2G"),
    ],
)
def test_check_names_what_it_cannot_read(
    ramda: Run, pruned: Path, flags: str, message: str, example: str
) -> None:
    result = ramda("check", str(pruned), *flags.split())
    flag = flags.split()[0]
    assert result.exit_code == 2
    assert result.stderr == f"error: {flag} {message}\nhint: for example {example}\n"


def test_check_names_a_report_that_cannot_be_written(
    ramda: Run, pruned: Path, tmp_path: Path
) -> None:
    result = ramda("check", str(pruned), "--junit", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: cannot write {tmp_path}: Is a directory\nhint: give another path with --junit\n"
    )


def test_report_in_markdown(ramda: Run, pruned: Path) -> None:
    result = ramda("report", str(pruned), "--format", "markdown")
    assert result.exit_code == 0
    assert result.stdout.startswith("### digits\\-resnet: 50.0 % of the MACs")


def test_report_compares(ramda: Run, pruned: Path, tmp_path: Path) -> None:
    smaller = replace(REPORT, model=replace(REPORT.model, name="smaller"))
    other = write_pruned(tmp_path / "other.safetensors", smaller)
    for flags in ([], ["--format", "markdown"]):
        result = ramda("report", str(pruned), "--compare", str(other), *flags)
        assert result.exit_code == 0, result.stderr
        assert "smaller" in result.stdout
    result = ramda("report", str(pruned), "--compare", str(other), "--json")
    both = {"first": build_report(REPORT), "second": build_report(smaller)}
    assert json.loads(result.stdout) == both


def test_report_in_html(ramda: Run, pruned: Path) -> None:
    result = ramda("report", str(pruned), "--format", "html")
    assert result.stdout.startswith("<!doctype html>")
    result = ramda("report", str(pruned), "--format", "html", "--compare", str(pruned))
    assert result.exit_code == 2
    assert result.stderr == (
        "error: two models are compared in the terminal, in markdown or in JSON, not in HTML\n"
        "hint: leave out --compare, or choose --format markdown\n"
    )


def test_a_sweep_takes_targets_methods_and_seeds(ramda: Run, pipeline: FakePipeline) -> None:
    args = "sweep m --data d --targets params=0.2,10M --methods taylor,ramda --seeds 3,1"
    flags = "--augment rand-m9 --random-erasing 0.25 --mixup 0.2 --cutmix 1"
    result = ramda(*args.split(), *flags.split(), "--set", "training.epochs=2", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == SWEEP
    (((config, settings), _),) = pipeline.calls
    assert settings == ("params", (0.2, 1e7), ("taylor", "ramda"), (3, 1))
    assert (config.training.epochs, config.target.amounts) == (2, {"params": 0.2})
    assert (config.data.augment, config.data.random_erasing) == ("rand-m9", 0.25)
    assert (config.training.mixup, config.training.cutmix) == (0.2, 1.0)


def test_shares_alone_are_of_the_macs(ramda: Run, pipeline: FakePipeline) -> None:
    assert ramda("sweep", "m", "--data", "d", "--targets", "0.3,0.5").exit_code == 0
    assert pipeline.calls[0][0][1] == ("macs", (0.3, 0.5), ("ramda",), (0,))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--targets", "0.3,0.3"), "a target of --targets is there twice"),
        (("--targets", "foo=0.3"), "target must be METRIC=AMOUNT with METRIC one of macs,"),
        (("--targets", "0.3", "--methods", "l1"), "--methods must be of ramda, taylor, magnitude"),
        (("--targets", "0.3", "--seeds", "a"), "--seeds must be numbers separated by commas"),
        (("--targets", "0.3", "--seeds=-1"), "--seeds must not be negative"),
    ],
)
def test_a_bad_sweep_is_refused(
    ramda: Run, pipeline: FakePipeline, args: tuple[str, ...], message: str
) -> None:
    result = ramda("sweep", "m", "--data", "d", *args)
    assert (result.exit_code, pipeline.calls) == (2, [])
    assert result.stderr.splitlines()[-2].startswith(f"error: {message}")


def test_resume_takes_the_settings_of_the_directory(
    ramda: Run, pipeline: FakePipeline, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("{model: {name: m}, data: {name: d}, target: macs=0.5}")
    assert ramda("prune", "--resume", "-o", str(tmp_path)).exit_code == 0
    (config,), _ = pipeline.calls[-1]
    assert (config.model.name, config.output.directory) == ("m", tmp_path)
    assert pipeline.resume
    assert ramda("prune", "m", "--data", "d", "--target", "macs=0.5").exit_code == 0
    assert not pipeline.resume
    result = ramda("prune", "--resume", "-o", str(tmp_path / "other"))
    assert result.exit_code == 2
    assert "other holds no run to go on with\nhint: name its directory with -o" in result.stderr
