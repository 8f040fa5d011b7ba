"""Flags of small runs, and what they leave behind."""

from pathlib import Path

from launch.train import main

NARROW = ["--generator.channel_base=128", "--generator.channel_max=16", "--generator.z_dim=16", "--generator.w_dim=16"]

SMALL = [*NARROW, "--batches.generated=8", "--batches.real=16", "--saving.log_kimg=0.032"]

GROWING = ["--schedule.stage_kimg=0.032", "--schedule.fade_kimg=0.016"]

OF_OLD = [
    "--generator.img_resolution=8", "--generator.channel_base=32", "--generator.channel_max=8", "--generator.z_dim=8",
    "--generator.w_dim=8", "--generator.mapping_layers=1", "--batches.generated=4", "--batches.real=8",
    "--schedule.stage_kimg=0.016", "--schedule.fade_kimg=0.008",
]  # fmt: skip


def flags(data: Path, output: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--output", str(output), *SMALL, *GROWING, *more]


def newest(folder: Path, pattern: str) -> Path:
    return sorted(folder.glob(pattern))[-1]


def complaint(capsys, arguments: list[str], code: int) -> str:
    assert main(arguments) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]
