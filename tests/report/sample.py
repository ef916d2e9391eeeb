"""A report and an inspection with every field filled in."""

from dataclasses import replace

from ramda_cli.report.benchmark import Benchmark
from ramda_cli.report.document import (
    Accuracy,
    Asked,
    CheckEntry,
    DataEntry,
    EpochEntry,
    FileEntry,
    FixedEntry,
    GroupEntry,
    Latency,
    LatencyEntry,
    LayerEntry,
    MatrixEntry,
    ModelEntry,
    ProofEntry,
    RatioEntry,
    Reached,
    Report,
    Reproducibility,
    Size,
    Sizes,
    TimingEntry,
    TrainingEntry,
)
from ramda_cli.report.inspection import CandidateEntry, DenseSize, Inspection, Outcome, Removable

MODEL = ModelEntry(name="digits-resnet", kind="package", weights="ships with ramda-cli", classes=10)
FIXED = (
    FixedEntry(name="fc", reason="model output", operator="aten.linear", channels=10),
    *(
        FixedEntry(
            name=f"blocks.{index}.norm1",
            reason="aten.native_layer_norm mixes the channels it normalises",
            operator="aten.native_layer_norm",
            channels=192,
        )
        for index in range(5)
    ),
)

LATENCY = Latency(
    device="a CPU",
    threads=2,
    measurements=(
        LatencyEntry(
            runtime="eager",
            batch_size=1,
            rounds=60,
            dense=TimingEntry(median_ms=0.8, p90_ms=0.9, inputs_per_second=1250.0),
            pruned=TimingEntry(median_ms=0.75, p90_ms=0.85, inputs_per_second=1333.3),
            speedup=RatioEntry(median=1.06, low=0.97, high=1.15),
        ),
        LatencyEntry(
            runtime="eager",
            batch_size=32,
            rounds=40,
            dense=TimingEntry(median_ms=12.0, p90_ms=13.0, inputs_per_second=2666.7),
            pruned=TimingEntry(median_ms=6.6, p90_ms=7.0, inputs_per_second=4848.5),
            speedup=RatioEntry(median=1.82, low=1.79, high=1.86),
        ),
    ),
)

REPORT = Report(
    model=MODEL,
    data=DataEntry(
        description="digits: 1,437 training and 360 validation images",
        fingerprint="ab12",
        train_size=1437,
        val_size=360,
    ),
    asked=Asked(metric="macs", amount=0.5),
    reached=Reached(
        metric="macs",
        share=0.4996,
        count=20_480_000,
        requested_count=20_500_000,
        relative_deviation=-0.00098,
        met=True,
    ),
    size=Sizes(
        dense=Size(params=272_474, macs=41_000_000, channels=784, bytes=1_103_000),
        pruned=Size(params=140_000, macs=20_480_000, channels=512, bytes=590_000),
    ),
    accuracy=Accuracy(
        metric="top-1 accuracy",
        dense=0.9806,
        before_removal=0.9889,
        after_removal=0.9889,
        reloaded=0.9889,
        onnx=0.9889,
    ),
    latency=LATENCY,
    proof=ProofEntry(
        passed=True,
        checks=(
            CheckEntry(
                name="validation batch",
                dtype="float64",
                max_abs_difference=2.1e-15,
                relative_difference=3e-16,
                tolerance=1e-9,
                inputs=256,
                passed=True,
            ),
        ),
    ),
    groups=(
        GroupEntry(name="layer1.0.conv1", channels=32, kept=9, parameters=("a.weight",), held=2),
        GroupEntry(name="layer2.0.conv1", channels=64, kept=64, parameters=("b.weight",)),
    ),
    fixed=FIXED,
    matrices=(
        MatrixEntry(
            name="layer3.0.conv1.weight",
            rows=64,
            cols=576,
            full_rank=64,
            rank=9,
            factorized=True,
            before=(4.0, 2.0, 1.0, 0.5),
            after=(4.0, 2.5, 0.0, 0.0),
        ),
        MatrixEntry(
            name="fc.weight",
            rows=10,
            cols=64,
            full_rank=10,
            rank=10,
            factorized=False,
            reason="rank 10 of 10 x 64 saves nothing; up to 8 would",
            before=(2.0, 1.0),
            after=(2.0, 1.0),
        ),
    ),
    layers=(
        LayerEntry(name="conv1", kind="Conv2d", width=64, kept=64, groups=("layer2.0.conv1",)),
        LayerEntry(
            name="layer1.0.conv1", kind="Conv2d", width=32, kept=9, groups=("layer1.0.conv1",)
        ),
        LayerEntry(
            name="layer2.0.conv1", kind="Conv2d", width=64, kept=64, groups=("layer2.0.conv1",)
        ),
        LayerEntry(name="fc", kind="Linear", width=10, kept=10),
    ),
    training=TrainingEntry(
        method="RAMDA",
        epochs=10,
        steps=230,
        seconds=62.2,
        history=(EpochEntry(epoch=1, loss=0.2, certificate=float("nan")),),
        zero_set_stability=1.0,
    ),
    layout="native module with patched sizes",
    files=(FileEntry(name="model.safetensors", bytes=590_000, sha256="ab" * 32),),
    notes=("the head was replaced: 1000 to 10 classes",),
    reproducibility=Reproducibility(
        config={"training": {"epochs": 10}},
        seed=0,
        versions={"ramda": "0.1.0", "torch": "2.15.0"},
        device="cpu",
        date="2026-01-05",
        command="ramda prune digits-resnet --data digits",
    ),
)

UNTRAINED = replace(REPORT, data=None, asked=Asked(), accuracy=None, training=None)
"""What `ramda remove` reports without data."""

INSPECTION = Inspection(
    model=MODEL,
    size=DenseSize(params=272_474, macs=41_000_000, channels=784),
    groups=(
        CandidateEntry(
            name="layer1.0.conv1",
            channels=32,
            params=9600,
            macs=1_280_000,
            unit="channel",
            penalized=("a.weight",),
            coupled=("a.weight", "b.weight"),
        ),
    ),
    fixed=FIXED,
    removable=Removable(params_share=0.93, macs_share=0.95, channels=32),
    modules=("a", "b"),
    outcome=Outcome(layout="native", submodules={"Attention": 12}, max_relative_difference=3.1e-16),
    notes=("one operator has no rule",),
)

BENCHMARK = Benchmark(
    file="out/model.safetensors",
    dense="digits-resnet",
    latency=LATENCY,
    versions={"ramda": "0.1.0", "torch": "2.15.0"},
    date="2026-01-05",
    notes=("loading net.py:build ran the Python code of that file",),
)
