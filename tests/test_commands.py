"""The commands as a person meets them: help, presets, mistakes."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from launch.cli import VERBS, main
from launch.command import CommandParser, run_command
from launch.train import build_parser, make_config

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_as_a_module_too(verb):
    done = subprocess.run([sys.executable, "-m", f"launch.{verb}", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: dinogen {verb}")
    assert "torch" not in done.stderr


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("synth", "--count --output --seed"),
        ("download", "--dataset --output --workers"),
        ("crop", "--input --output --detector --faces --min-face --workers"),
        ("pack", "--input --output --teacher --captions --batch-size"),
        ("train", "--config --data --output --seed --objective.name --teacher.shard --train.total_kimg "
         "--train.max_minutes --train.checkpoint_kimg"),
        ("sample", "--model --count --output --seed --truncation-psi"),
        ("interpolate", "--model --output --frames --seed"),
        ("evaluate", "--model --reference --count --output"),
        ("demo", "--output --minutes --input"),
    ],
)  # fmt: skip
def test_the_public_flags_exist(verb, flags, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert not [flag for flag in flags.split() if flag not in text]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_presets_hold_only_known_and_possible_keys(preset):
    parser = build_parser()
    config = make_config(parser, parser.parse_args(["--config", str(preset), "--data", "d", "--output", "o"]))
    assert config.train.batch_size <= config.train.real_batch_size


@pytest.mark.parametrize("file", sorted((ROOT / "configs/accelerate").glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_can_read_its_configs(file):
    config = load_config_from_file(str(file))
    assert config.num_processes >= config.num_machines >= 1


def test_print_config_gives_a_file_that_can_be_read_back(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["train", "--data", "d", "--output", "o", "--train.total_kimg", "7", "--print_config"])
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["train"]["total_kimg"] == 7
    (tmp_path / "printed.yaml").write_text(text)
    parser = build_parser()
    assert make_config(parser, parser.parse_args(["--config", str(tmp_path / "printed.yaml")])).train.total_kimg == 7


def test_dashes_and_an_equals_sign_work_alike(tmp_path, capsys):
    for flags in (["--min-face", "50"], ["--min-face=50"]):
        assert main(["crop", "--input", str(tmp_path / "none"), "--output", str(tmp_path / "out"), *flags]) == 2
        assert str(tmp_path / "none") in capsys.readouterr().err


def test_an_unknown_verb_is_answered_with_the_known_ones(capsys):
    assert main(["trian"]) == 2
    assert "no verb 'trian'; known ones: synth, download, crop" in capsys.readouterr().err


def test_an_unknown_flag_is_answered_with_the_nearest(capsys):
    assert main(["crop", "--input", "a", "--output", "b", "--min-fase", "3"]) == 2
    assert "unknown key 'min-fase'; did you mean 'min-face'?" in capsys.readouterr().err


@pytest.fixture
def renaming_parser():
    renamed = {"crops": "input", "old": "new", "old.size": "new.side", "old.betas": "gone: always the same", "x": ""}
    parser = CommandParser("pack", "Pack.", renamed=renamed)
    parser.add_argument("--input", type=str, required=True)
    parser.add_argument("--new.side", type=int, default=1)
    return parser


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (["--crops", "a"], "--crops is now --input"),
        (["--crops=a"], "--crops is now --input"),
        (["--old.weight=3"], "--old.weight is now --new.weight"),
        (["--old.size=3"], "--old.size is now --new.side"),
        (["--old.betas", "1"], "--old.betas is gone: always the same"),
        (["--x"], "--x is gone: leave it out"),
    ],
)
def test_an_old_flag_is_answered_with_the_new_one(renaming_parser, flags, answer, capsys):
    assert run_command(renaming_parser, lambda args: None, flags) == 2
    assert capsys.readouterr().err == f"dinogen pack: error: {answer}\n"


def test_all_old_keys_of_a_file_are_answered_together(renaming_parser, tmp_path, capsys):
    file = tmp_path / "old.yaml"
    file.write_text("input: a\ncrops: b\nold: {size: 3, at: {16: 2}}\nnew: {side: 2}\n")
    assert run_command(renaming_parser, lambda args: None, ["--config", str(file)]) == 2
    changes = ["these keys changed:", "crops is now input", "old.size is now new.side", "old.at is now new.at"]
    assert capsys.readouterr().err == f"dinogen pack: error: {file}: " + "\n  ".join(changes) + "\n"


def test_new_keys_pass(renaming_parser, tmp_path):
    file = tmp_path / "new.yaml"
    file.write_text("input: a\nnew: {side: 2}\n")
    assert renaming_parser.parse_args(["--config", str(file)]).new.side == 2


@dataclass
class Block:
    size: int = 3


@dataclass
class Config:
    block: Block | None = None


def test_a_block_that_may_be_absent_is_on_when_one_of_its_keys_is_given():
    parser = CommandParser("x", "X.")
    parser.add_class_arguments(Config)
    assert parser.instantiate(parser.parse_args([])).block is None
    assert parser.instantiate(parser.parse_args(["--block.size", "4"])).block == Block(4)


def test_a_preset_is_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--data", "d", "--output", "o"]
    total = build_parser().parse_args(["--config", str(ROOT / "configs/demo.yaml"), *flags]).train.total_kimg
    assert build_parser().parse_args(["--config", "demo", *flags]).train.total_kimg == total
    Path("demo").write_text("train: {total_kimg: 7}\n")
    assert build_parser().parse_args(["--config", "demo", *flags]).train.total_kimg == 7


def test_an_unknown_preset_is_answered_with_all_and_the_nearest(capsys):
    assert main(["train", "--config", "face32", "--data", "d", "--output", "o"]) == 2
    error = capsys.readouterr().err
    assert "--config face32: no such file" in error and "(demo, faces256, faces32, " in error
    assert error.endswith("; did you mean 'faces32'?\n")


def test_a_traceback_is_shown_only_on_request(tmp_path, capsys):
    flags = ["train", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "run")]
    assert main(flags) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main([*flags, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_the_shell_scripts_are_sound():
    for script in [*(ROOT / "launch").glob("*.sh"), ROOT / ".ci/run"]:
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert os.access(script, os.X_OK) or script.name == "environment.sh"
