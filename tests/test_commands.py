"""The commands as a person meets them: help, presets, mistakes."""

import fcntl
import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from dinogen.advice import command_line
from dinogen.errors import DinogenError, Stopped, UsageError  # noqa: F401 (some in ENDINGS only)
from dinogen.progress import note, progress
from launch import pack
from launch.cli import VERBS, main
from launch.command import CommandParser, run_command, say_done
from launch.train import build_parser, make_config

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "configs").glob("*.yaml"))


def run_module(verb, *flags):
    return subprocess.run([sys.executable, "-m", f"launch.{verb}", *flags], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_as_a_module_too(verb):
    done = run_module(verb, "--help")
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
        ("train", "--config --data --output --seed --objective.name --teacher.shard --schedule.total_kimg "
         "--machine.max_minutes --saving.checkpoint_kimg"),
        ("sample", "--model --count --output --seed --truncation-psi"),
        ("interpolate", "--model --output --frames --seed"),
        ("evaluate", "--model --data --count --output"),
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
    assert config.batches.generated <= config.batches.real


@pytest.mark.parametrize("given", [["0.1", "0.2"], ["[0.1, 0.2]"], ["[0.1,0.2]"]])
def test_lists_are_taken_as_words_and_in_brackets(given):
    flags = ["--objective.temperatures", *given, "--trackers", "tensorboard", "--seed", "3"]
    args = build_parser().parse_args(["--data", "d", "--output", "o", *flags])
    assert (args.objective.temperatures, args.trackers, args.seed) == ([0.1, 0.2], ["tensorboard"], 3)


@pytest.mark.parametrize("file", sorted((ROOT / "configs/accelerate").glob("*.yaml")), ids=lambda path: path.name)
def test_accelerate_can_read_its_configs(file):
    config = load_config_from_file(str(file))
    assert config.num_processes >= config.num_machines >= 1


def test_print_config_gives_a_file_that_can_be_read_back(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["train", "--data", "d", "--output", "o", "--schedule.total_kimg", "7", "--print-config"])
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["schedule"]["total_kimg"] == 7
    (tmp_path / "printed.yaml").write_text(text)
    parser = build_parser()
    assert make_config(parser, parser.parse_args(["--config", str(tmp_path / "printed.yaml")])).schedule.total_kimg == 7


def test_dashes_and_an_equals_sign_work_alike(tmp_path, capsys):
    for flags in (["--min-face", "50"], ["--min-face=50"]):
        assert main(["crop", "--input", str(tmp_path / "none"), "--output", str(tmp_path / "out"), *flags]) == 2
        assert str(tmp_path / "none") in capsys.readouterr().err


def test_an_unknown_verb_is_answered_with_the_known_ones(capsys):
    assert main(["xyzzy"]) == 2
    assert "no verb 'xyzzy'; known ones: synth, download, crop" in capsys.readouterr().err
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "dinogen: error: no verb 'trian'; did you mean 'train'?\n"


def test_help_of_a_verb_has_two_spellings(capsys):
    texts = []
    for words in (["help", "crop"], ["crop", "--help"]):
        with pytest.raises(SystemExit):
            main(words)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and texts[0].startswith("usage: dinogen crop --input INPUT --output OUTPUT [flags]")
    assert (
        main(["help"]) == 0
        and "dinogen help VERB\nExit codes: 0 done, 1 failed, 2 wrong usage, 130" in capsys.readouterr().out
    )
    assert main(["help", "corp"]) == 2 and "did you mean 'crop'?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_help_speaks_of_values_not_of_types(verb):
    text = importlib.import_module(f"launch.{verb}").build_parser().format_help()
    noise = re.findall(r"<class.*|lambda.*|\btype:.*|null\)|Optional\[.*|\{\w+,.*|\x08|PositiveInt", text)
    assert not noise
    assert str(ROOT) not in text


def test_help_shows_the_keys_of_blocks_that_may_be_absent():
    parser = CommandParser(
        "x", "X.", "A first line that is\nnot copied.\n\nExample: dinogen x " + "--block.size 4 " * 9
    )
    parser.add_class_arguments(Config)
    text = parser.format_help()
    assert re.search(r"--block \{\}\|null .*off\n +--block.size SIZE .*\(default: 3\)", text)
    assert ("--block.size 4 " * 9).strip() in text and "is not copied" in text


@pytest.mark.parametrize("command", ["-h", "crop --help", "completion bash"])
def test_a_reader_may_leave_early(command):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m launch.cli {command} | true; echo ${{PIPESTATUS[0]}}"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == "" and done.stdout.strip() in ("0", "141")


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("dinogen tra", ["train"]),
        ("dinogen crop --min-f", ["--min-face"]),
        ("dinogen crop --detector ret", ["retinaface"]),
        ("dinogen train --config faces3", ["faces32"]),
    ],
)
def test_tab_completes(line, answers):
    script = run_module("completion", "bash").stdout + (
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _dinogen; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (answers, "")


def test_completion_is_for_shells_that_it_knows(capsys):
    assert main(["completion"]) == 2 and "give bash|zsh" in capsys.readouterr().err
    assert main(["completion", "fish"]) == 2 and "fish: give one of bash, zsh" in capsys.readouterr().err
    assert main(["completion", "zsh"]) == 0 and "bashcompinit" in capsys.readouterr().out


def test_hyphen_and_underscore_are_one(tmp_path, capsys):
    (tmp_path / "keys.yaml").write_text("batch-size: 7\n")
    for flags in (["--batch_size", "7"], ["--batch-size=7"], ["--config", str(tmp_path / "keys.yaml")]):
        assert pack.build_parser().parse_args(["--input", "a", "--output", "b", *flags]).batch_size == 7
    with pytest.raises(SystemExit):
        main(["synth", "--output", "o", "--print_config"])
    text = capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["synth", "--output", "o", "--print-config"])
    assert text == capsys.readouterr().out != ""


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("train --data d", "give --output"),
        ("crop", "give --input and --output"),
        ("sample --model", "--model needs a value"),
        ("sample runs/faces", "'runs/faces' belongs to no flag; every value follows one, such as --model runs/faces"),
        ("sample --model m --count 0", "--count 0: give a whole number above 0"),
        ("sample --model m --seed 4294967296", "--seed 4294967296: give a whole number from 0 to 4294967295"),
        ("synth --output o --seed -1", "--seed -1: give a whole number from 0 to 4294967295"),
        ("train --data d --output o --seed 99999999999999999999999", "take a whole number from 0 to 4294967295"),
        ("demo --minutes nan", "--minutes nan: give a number"),
        ("sample --model m --truncation-psi x", "--truncation-psi x: give a number, at least 0"),
        ("train --data d --output o --objective.name x", "--objective.name x: give one of sinkhorn, kernel, paired"),
        ("train --bands 4", "unknown key 'bands'; did you mean 'objective.bands'?"),
        ("train --trackers", "--trackers needs a value"),
        ("train --print-confg", "unknown key 'print-confg'; did you mean 'print-config'?"),
    ],
)
def test_what_cannot_be_parsed_is_answered_in_plain_words(command, answer, capsys):
    assert main(command.split()) == 2
    assert answer in capsys.readouterr().err


HOME_FLAGS = {
    "synth": ["output"],
    "download": ["dataset", "output"],
    "crop": ["input", "output", "detector-weights"],
    "pack": ["input", "output", "teacher", "captions", "clip"],
    "train": ["data", "output", "init-from", "teacher.path", "words.encoder"],
    "sample": ["model", "output", "prompts", "style", "encoder"],
    "interpolate": ["model", "output", "encoder"],
    "mix": ["model", "output", "encoder"],
    "project": ["model", "image", "output", "teacher"],
    "export": ["model", "output", "encoder", "prompts", "runtime"],
    "play": ["model", "encoder", "teacher", "auth-file"],
    "push": ["model", "repo"],
    "evaluate": ["model", "output", "data", "inception", "clip", "teacher", "attributes", "encoder"],
    "compare": ["model", "output", "data", "inception", "clip", "teacher", "attributes", "encoder"],
    "verify": ["data"],
    "inspect": ["data", "output"],
    "remove": ["data"],
    "card": ["data", "output"],
    "bench": ["output", "preset", "crops", "teachers"],
    "doctor": ["output", "data", "teacher"],
    "completion": [],
    "demo": ["output", "input"],
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("by_file", [False, True], ids=["flags", "file"])
def test_a_leading_tilde_is_the_home_folder_in_every_path(verb, by_file, tmp_path, monkeypatch):
    """Shells expand it in `--output ~/x` alone, neither in `--output=~/x` nor in files."""
    monkeypatch.setenv("HOME", "/home/me")
    several = {"teachers", "style"} | ({"model"} if verb == "compare" else set())
    values = {key: ["~/x"] if key in several else "~/x" for key in HOME_FLAGS[verb]}
    parser = importlib.import_module(f"launch.{verb}").build_parser()
    file = tmp_path / "keys.yaml"
    file.write_text(json.dumps({key: value for key, value in values.items() if "." not in key}))
    dotted = [f"--{key}=~/x" for key in values if "." in key]
    flags = [f"--config={file}", *dotted] if by_file else [f"--{key}=~/x" for key in values]
    args = parser.parse_args([*flags, *(["bash"] if verb == "completion" else [])])
    found = {key: args[key.replace("-", "_")] for key in values}
    assert {key: str(value) for key, value in found.items()} == {
        key: str(["/home/me/x"] if key in several else "/home/me/x") for key in values
    }


def test_words_are_no_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert importlib.import_module("launch.sample").build_parser().parse_args(["--model=m", "--prompt=~/x"]).prompt == [
        "~/x"
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_file_of_keys_may_come_from_any_editor(encoding, tmp_path):
    (tmp_path / "keys.yaml").write_bytes("batch-size: 7\r\nteacher: Müller\r\n".encode(encoding))
    flags = ["--config", str(tmp_path / "keys.yaml"), "--input=a", "--output=b"]
    args = pack.build_parser().parse_args(flags)
    assert (args.batch_size, args.teacher) == (7, "Müller")


def test_numbers_of_a_file_with_hyphens_stay_as_they_stand(tmp_path):
    (tmp_path / "keys.yaml").write_text("optimizer: {learning-rate: 1e-4, learning_rate_at: {64: 1e-5}}\n")
    args = build_parser().parse_args(["--config", str(tmp_path / "keys.yaml"), "--data=d", "--output=o"])
    assert (args.optimizer.learning_rate, args.optimizer.learning_rate_at) == (1e-4, {64: 1e-5})


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b"- 1\n", "give keys and values, a line each, such as seed: 1"),
        (b"seed: 1\na: [", "line 2: not YAML (expected the node content"),
        (b"seed: 2020-13-45\n", "not YAML (month must be in 1..12)"),
        (b"words: &a {encoder: *a}\n", "not YAML (maximum recursion depth exceeded)"),
        (b"seed: \xff\n", "line 1: cannot be read as UTF-8 text"),
        (b"generator: 3\n", "generator: 3 is not a group of keys"),
        (b"schedule: {total_kimg: .inf}\n", "schedule.total_kimg inf must be a finite number"),
        (b'init_from: "a\\0b"\n', "init_from: a text with a zero byte"),
        (b"words: true\n", "--words True: give {}, null, or its keys"),
    ],
)
def test_a_file_that_holds_no_keys_is_answered_in_plain_words(text, answer, tmp_path, capsys):
    (tmp_path / "keys.yaml").write_bytes(text)
    assert main(["train", "--config", str(tmp_path / "keys.yaml"), "--data=d", "--output=o"]) == 2
    error = capsys.readouterr().err
    assert answer in error


@pytest.mark.parametrize("flag", ["--levels [1,2,4]", "--levels [1, 2, 4]", "--levels=[1,2,4]", "--levels 1 2 4"])
def test_a_list_may_be_typed_either_way(flag):
    assert pack.build_parser().parse_args(["--input=a", "--output=b", *flag.split(" ")]).levels == [1, 2, 4]
    flags = ["--data=d", "--output=o", *flag.replace("levels", "objective.temperatures").split(" ")]
    assert build_parser().parse_args(flags).objective.temperatures == [1, 2, 4]


def test_one_value_is_a_list_too():
    flags = ["--data=d", "--output=o", "--objective.temperatures=0.1", "--trackers=wandb"]
    args = build_parser().parse_args(flags)
    assert (args.objective.temperatures, args.trackers) == ([0.1], ["wandb"])


def test_letters_that_the_output_cannot_hold_are_escaped():
    work = "lambda args: say_done('\\u4e00\\udcff')"
    code = f"from launch.command import *; run_command(CommandParser('x', 'X.'), {work}, [])"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("Wrote \\u4e00\\udcff.\n", "")


def test_an_unknown_key_of_a_file_is_answered_with_the_file_and_the_nearest(tmp_path, capsys):
    (tmp_path / "keys.yaml").write_text("objective: {bnds: 4}\n")
    assert main(["train", "--config", str(tmp_path / "keys.yaml")]) == 2
    assert "keys.yaml: unknown key 'objective.bnds'; did you mean 'objective.bands'?" in capsys.readouterr().err


ENDINGS = {
    "pass": (0, ""),
    "raise DinogenError('broken')": (1, "error: broken"),
    "1 / 0": (1, "error: unexpected ZeroDivisionError"),
    "raise UsageError('--x 3: no')": (2, "error: --x 3: no"),
    "open('/nowhere/x')": (1, "error: /nowhere/x: no such file or directory; check the path"),
    "raise MemoryError": (1, "error: not enough memory; ask for less"),
    "raise KeyboardInterrupt": (130, "interrupted; run the same command again to resume"),
    "raise Stopped('saved', signal.SIGINT)": (130, "saved"),
    "raise Stopped('saved', signal.SIGUSR1)": (143, "saved"),
    "os.kill(os.getpid(), signal.SIGTERM)": (143, "ended by SIGTERM; run the same command again to resume"),
    "os.kill(os.getpid(), signal.SIGHUP)": (143, "ended by SIGHUP; run the same command again to resume"),
}


@pytest.mark.parametrize("work", ENDINGS)
def test_every_verb_ends_with_the_same_exit_codes(work, capsys):
    code, message = ENDINGS[work]
    assert run_command(CommandParser("x", "X."), lambda args: exec(work), []) == code
    said = capsys.readouterr().err
    assert said.startswith(f"dinogen x: {message}" if message else "") and ("error" in said) == ("error" in message)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_left_to_others_before_and_after(number):
    before = signal.getsignal(number)
    run_command(CommandParser("x", "X."), lambda args: None, [])
    assert signal.getsignal(number) == before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_command(CommandParser("x", "X."), lambda args: os.kill(os.getpid(), signal.SIGHUP), []) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_ends_a_command_in_good_order(tmp_path):
    """Nothing can be printed any more, and what is half-written goes all the same."""
    master, terminal = pty.openpty()
    program = """
import sys, time
from pathlib import Path
from dinogen.files import atomic_file
from launch.command import CommandParser, run_command

def work(args):
    with atomic_file(Path(sys.argv[1], "out")) as temporary:
        temporary.write_text("half")
        print("begun", flush=True)
        time.sleep(300)

sys.exit(run_command(CommandParser("x", "X."), work, []))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(terminal)
    try:
        while b"begun" not in os.read(master, 1000):
            pass
        os.close(master)
        assert process.wait(timeout=120) == 143
    finally:
        process.kill()
    assert list(tmp_path.iterdir()) == []


def test_json_ends_with_one_object(capsys):
    def work(args):
        print("a table")
        say_done(
            Path("a b"), command_line("pack", input=Path("a b"), layers=[1, 2], mirror=True), remark="3 faces", faces=3
        )

    assert run_command(CommandParser("crop", "X."), work, ["--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "command": "dinogen crop", "exit_code": 0, "did": "Wrote", "written": "a b", "remark": "3 faces", "faces": 3,
        "next": "dinogen pack --input 'a b' --layers 1 2 --mirror",
    }  # fmt: skip
    assert said.err == "a table\n"
    assert run_command(CommandParser("crop", "X."), work, []) == 0
    assert capsys.readouterr().out.endswith(
        "Wrote a b: 3 faces. Next: dinogen pack --input 'a b' --layers 1 2 --mirror\n"
    )


def test_json_tells_failures_too(capsys):
    def work(args):
        raise DinogenError("broken")

    assert run_command(CommandParser("crop", "X."), work, ["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"command": "dinogen crop", "exit_code": 1, "said": "error: broken"}


def test_quiet_shows_results_only(capsys):
    def work(args):
        note("looking")
        list(progress(range(3), desc="look"))
        say_done("it")

    assert run_command(CommandParser("x", "X."), work, ["--quiet"]) == 0
    assert capsys.readouterr() == ("Wrote it.\n", "")
    assert run_command(CommandParser("x", "X."), work, []) == 0
    said = capsys.readouterr()
    assert said.out == "looking\nWrote it.\n" and said.err.startswith("look: 3 img in ")


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
        (["--old.weight=3"], "unknown key 'old.weight'; see --help for the known ones"),
        (["--old.betas", "1"], "--old.betas is gone: always the same"),
        (["--x"], "--x is gone: leave it out"),
    ],
)
def test_an_old_flag_that_means_nothing_now_is_refused(renaming_parser, flags, answer, capsys):
    assert run_command(renaming_parser, lambda args: None, flags) == 2
    assert capsys.readouterr().err == f"dinogen pack: error: {answer}\n"


@pytest.mark.parametrize("flags", [["--crops", "a", "--old.size=3"], ["--crops=a", "--old.size", "3"]])
def test_an_old_flag_is_taken_as_the_new_one(renaming_parser, flags, capsys):
    args = renaming_parser.parse_args(flags)
    assert (args.input, args.new.side) == ("a", 3)
    assert capsys.readouterr().err == (
        "dinogen pack: --crops is now --input; it is taken as that\n"
        "dinogen pack: --old.size is now --new.side; it is taken as that\n"
    )


@pytest.mark.parametrize("text", ["crops: a\nold: {size: 3}", "crops: a\nold.size: 3"])
def test_old_keys_of_a_file_are_taken_as_the_new_ones(renaming_parser, tmp_path, text, capsys):
    file = tmp_path / "old.yaml"
    file.write_text(text)
    args = renaming_parser.parse_args(["--config", str(file)])
    assert (args.input, args.new.side) == ("a", 3)
    assert f"dinogen pack: {file}: old.size is now new.side; it is taken as that\n" in capsys.readouterr().err


def test_a_file_with_the_old_and_the_new_name_of_a_key_is_refused(renaming_parser, tmp_path, capsys):
    file = tmp_path / "old.yaml"
    file.write_text("input: a\nold: {size: 3}\nnew: {side: 2}\n")
    assert run_command(renaming_parser, lambda args: None, ["--config", str(file)]) == 2
    assert f"error: {file}: old.size is now new.side, and both are there; take old.size out" in capsys.readouterr().err


def test_all_keys_of_a_file_that_are_gone_are_answered_together(renaming_parser, tmp_path, capsys):
    file = tmp_path / "old.yaml"
    file.write_text("input: a\nold: {betas: 1}\nx: 2\n")
    assert run_command(renaming_parser, lambda args: None, ["--config", str(file)]) == 2
    gone = ["these keys are gone:", "old.betas is gone: always the same", "x is gone: leave it out"]
    assert capsys.readouterr().err == f"dinogen pack: error: {file}: " + "\n  ".join(gone) + "\n"


def test_new_keys_pass(renaming_parser, tmp_path):
    file = tmp_path / "new.yaml"
    file.write_text("input: a\nnew: {side: 2}\n")
    assert renaming_parser.parse_args(["--config", str(file)]).new.side == 2


@dataclass
class Block:
    """A block.

    Args:
        size: how large.
    """

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
    total = build_parser().parse_args(["--config", str(ROOT / "configs/demo.yaml"), *flags]).schedule.total_kimg
    assert build_parser().parse_args(["--config", "demo", *flags]).schedule.total_kimg == total
    Path("demo").write_text("schedule: {total_kimg: 7}\n")
    assert build_parser().parse_args(["--config", "demo", *flags]).schedule.total_kimg == 7


def test_an_unknown_preset_is_answered_with_all_and_the_nearest(capsys):
    assert main(["train", "--config", "face32", "--data", "d", "--output", "o"]) == 2
    error = capsys.readouterr().err
    assert "--config face32: no such file" in error and "(demo, drawn128, faces256-cpu, " in error
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
