"""The image and its compose file, as far as they can be tried without Docker: every part that runs elsewhere is run.

The image itself is not built here.
"""

import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
DOCKERFILE = ROOT / "docker/Dockerfile"
ENTRYPOINT = ROOT / "docker/entrypoint.sh"
TINY = [
    "--generator.channel_base=128", "--generator.channel_max=16", "--generator.z_dim=16", "--generator.w_dim=16",
    "--batches.generated=8", "--batches.real=16", "--saving.log_kimg=0.016",
]  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in joined]


def arguments(name: str) -> list[str]:
    return [argument for instruction, argument in instructions() if instruction == name]


def copied() -> Iterator[Path]:
    """What COPY takes from the project's folder."""
    for argument in arguments("COPY"):
        words = argument.split()
        assert not words[0].startswith("--"), "only plain copies are understood here"
        yield from (Path(word) for word in words[:-1])


def environment(**variables: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATA", "OUTPUT", "CONFIG")}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    return kept | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in variables.items()}


def enter(*arguments: str, **variables: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(ENTRYPOINT), *arguments], env=environment(**variables), capture_output=True, text=True, timeout=600
    )


# ---- the Dockerfile


def test_every_instruction_is_one_that_docker_knows():
    known = {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "VOLUME", "HEALTHCHECK", "ENTRYPOINT"}
    assert {name for name, _ in instructions()} == known


def test_base_images_are_pinned():
    for argument in arguments("FROM"):
        image, _, tag = argument.split()[0].partition(":")
        assert re.match(r"\d+\.\d+\.\d+", tag), f"{image} has no version"


def test_the_base_is_the_cuda_runtime_and_nothing_installs_a_compiler():
    assert "-runtime-" in arguments("FROM")[-1]
    assert not re.search(r"\b(gcc|g\+\+|clang|build-essential|python3?-dev)\b|-devel", " ".join(arguments("RUN")))


def test_everything_that_is_copied_exists_and_reaches_the_builder():
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    for path in copied():
        assert (ROOT / path).exists(), path
        ignored = False
        for pattern in patterns:  # the last one that fits decides
            if fnmatch(str(path), pattern.lstrip("!")):
                ignored = not pattern.startswith("!")
        assert not ignored, f".dockerignore leaves {path} out"


def test_the_dependencies_layer_comes_before_the_code_and_needs_only_its_metadata():
    order = instructions()
    install = next(place for place, (_, argument) in enumerate(order) if "--requirement" in argument)
    before = [argument for name, argument in order[:install] if name == "COPY"]
    assert before == ["setup.cfg pyproject.toml ./"]


def test_the_requirements_that_it_writes_are_those_of_setup_cfg(tmp_path):
    command, _, target = next(run for run in arguments("RUN") if "configparser" in run).rpartition(" > ")
    assert target == "/tmp/requirements.txt"
    printed = subprocess.run(
        command, shell=True, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )  # fmt: skip
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    written = [str(Requirement(line)) for line in printed.stdout.split("\n") if line.strip()]
    wanted = config["options"]["install_requires"].split("\n") + config["options.extras_require"]["remote"].split("\n")
    assert written == [str(Requirement(line)) for line in wanted if line]


def test_the_copied_files_are_enough_to_build_the_package(tmp_path):
    pytest.importorskip("setuptools", reason="setuptools builds the package; pip install setuptools")
    for path in copied():
        source, target = ROOT / path, tmp_path / "source" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [*pip, "--target", str(tmp_path / "site"), "."]
    done = subprocess.run(command, cwd=tmp_path / "source", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/launch/train.py").exists() and (tmp_path / "site/configs/faces256.yaml").exists()
    metadata = next((tmp_path / "site").glob("dinogen-*.dist-info")) / "METADATA"
    assert (ROOT / "README.md").read_text().splitlines()[2] in metadata.read_text()


IMAGE = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/merged"
cp "$2" "$1/merged/build.sh"
mount --rbind /dev "$1/merged/dev"
mount -t proc proc "$1/merged/proc"
exec chroot "$1/merged" bash -eux /build.sh
"""


def as_root_in_a_throwaway_system(folder: Path, script: str) -> subprocess.CompletedProcess:
    """Run a script on a copy-on-write view of this machine's files, from which nothing comes back."""
    (folder / "build.sh").write_text(script)
    (folder / "system").mkdir()
    try_out = ["unshare", "--mount", "--propagation", "private", "bash", "-euc"]
    if subprocess.run([*try_out, f"mount -t tmpfs tmpfs {folder}/system"], capture_output=True).returncode:
        pytest.skip("a throwaway system needs root and mounts")
    command = [*try_out, IMAGE, "image", str(folder / "system"), str(folder / "build.sh")]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_its_commands_build_a_system_in_which_the_unprivileged_user_runs_the_entry_point():
    """All but those that fetch: apt-get, uv, and the dependencies, for which a .pth file stands in."""
    pytest.importorskip("setuptools", reason="setuptools builds the package; pip install setuptools")
    script = [
        "getent passwd 1000 | cut -d: -f1 | xargs --no-run-if-empty userdel",
        "useradd --create-home --uid 1000 ubuntu",  # as in the base image
        f"{sys.executable} -m venv /opt/venv",
        # older than this environment's, where there is one
        "rm --recursive --force /opt/venv/lib/python3.*/site-packages/setuptools",
        f"echo {sysconfig.get_path('purelib')} > /opt/venv/lib/python3.{sys.version_info[1]}/site-packages/here.pth",
        f"for folder in {' '.join(str(folder) for folder in readable_needed())}; do chmod o+rx $folder; done",
        "export PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0",
    ]
    for name, argument in instructions():
        if name == "WORKDIR":
            script += [f"mkdir --parents {argument}", f"cd {argument}"]
        elif name == "ENV":
            script.append(f"export {argument}")
        elif name == "COPY":
            *sources, target = argument.split()
            for source in sources:
                script.append(f"mkdir --parents $(dirname {target}) && cp --recursive --no-target-directory "
                              f"{ROOT / source} {target if target != './' else source}")  # fmt: skip
        elif name == "RUN" and not re.search(r"apt-get|uv python|--requirement", argument):
            script.append(argument)
        elif name == "USER":
            become = f"setpriv --reuid {argument} --regid {argument} --clear-groups"
        elif name == "ENTRYPOINT":
            script.append(f"{become} {yaml.safe_load(argument)[0]} synth --count 2 --output /runs/photos")
    script += ["stat --format %U /runs/photos/captions.csv", f"{become} dinogen --version"]
    with tempfile.TemporaryDirectory() as folder:
        done = as_root_in_a_throwaway_system(Path(folder), "\n".join(script))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-2:] == ["dinogen", "0.1.0"]
    assert not Path("/opt/dinogen").exists(), "nothing came back"


def readable_needed() -> set[Path]:
    """Folders above this Python and its packages, which others than root may not be allowed into."""
    files = [Path(sys.executable).resolve(), Path(sysconfig.get_path("purelib")), ROOT]
    return {folder for file in files for folder in file.parents}


def test_it_does_not_run_as_root():
    users = arguments("USER")
    assert users and users[-1].isdigit() and int(users[-1]) > 0, "a number, so that an orchestrator can check it"
    names = [name for name, _ in instructions()]
    assert "RUN" not in names[names.index("USER") :]


def test_the_entry_point_and_the_preset_are_among_the_copied_files():
    assert arguments("WORKDIR") == ["/opt/dinogen"]
    assert arguments("ENTRYPOINT") == ['["/opt/dinogen/docker/entrypoint.sh"]']
    assert os.access(ENTRYPOINT, os.X_OK)
    preset = re.search(r"CONFIG=(\S+)", " ".join(arguments("ENV"))).group(1)
    assert (ROOT / f"configs/{preset}.yaml").is_file()


# ---- the health check


def healthy(output: Path, minutes: int = 30) -> bool:
    command = arguments("HEALTHCHECK")[0].split("CMD ", 1)[1]
    env = environment(OUTPUT=output, HEALTH_MINUTES=minutes)
    return subprocess.run(["/bin/sh", "-c", command], env=env, capture_output=True).returncode == 0


def test_a_run_is_healthy_while_scalars_or_a_checkpoint_are_written(tmp_path):
    assert not healthy(tmp_path), "nothing there yet"
    log = tmp_path / "stats.jsonl"
    log.touch()
    assert healthy(tmp_path)
    hour_ago = time.time() - 3600
    os.utime(log, (hour_ago, hour_ago))
    assert not healthy(tmp_path), "it hangs"
    assert healthy(tmp_path, minutes=90)
    checkpoint = tmp_path / "checkpoints/nimg000000000016/state.json"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert healthy(tmp_path)


# ---- the entry point


def test_any_verb_of_dinogen_can_be_run():
    done = enter("synth", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: dinogen synth")


def test_a_forgotten_volume_is_named(tmp_path):
    done = enter(DATA=tmp_path, OUTPUT=tmp_path / "run")
    assert done.returncode == 2 and f"no manifest.json in DATA {tmp_path}" in done.stderr and "--volume" in done.stderr


def test_a_folder_that_cannot_be_written_to_is_named(shards32, tmp_path):
    (tmp_path / "file").touch()
    done = enter(DATA=shards32, OUTPUT=tmp_path / "file/run")
    assert done.returncode == 2 and f"may not write to OUTPUT {tmp_path}/file/run" in done.stderr


def test_it_trains_and_a_stop_reaches_the_trainer_which_saves(shards32, tmp_path):
    output = tmp_path / "run"
    process = subprocess.Popen(
        [str(ENTRYPOINT), *TINY, "--schedule.total_kimg=1e6"], env=environment(DATA=shards32, OUTPUT=output),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(output.glob("tensorboard/*")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1][-2000:]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)  # what `docker stop` sends
    _, err = process.communicate(timeout=300)
    assert process.returncode == 143, err[-2000:]
    assert "run the same command again to resume" in err
    assert list(output.glob("checkpoints/nimg*/state.json")) and healthy(output)


# ---- compose


@pytest.fixture
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker/compose.yaml").read_text())


def validate(compose_file: Path) -> subprocess.CompletedProcess:
    """Compare with the schema of the Compose Specification."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema brings the schema; install the extra dev")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(compose_file)]
    return subprocess.run(command, capture_output=True, text=True)


def test_compose_is_valid_by_its_schema(compose, tmp_path):
    done = validate(ROOT / "docker/compose.yaml")
    assert done.returncode == 0, done.stdout
    compose["services"]["trainer"]["shm-size"] = compose["services"]["trainer"].pop("shm_size")
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(compose))
    done = validate(tmp_path / "compose.yaml")
    assert done.returncode != 0 and "shm-size" in done.stdout, "the schema notices what is wrong"


def test_compose_has_the_keys_in_use_here_only(compose):
    service = {
        "image", "build", "user", "environment", "volumes", "shm_size", "ulimits", "init", "stop_grace_period",
        "restart", "deploy", "pull_policy", "depends_on", "entrypoint", "ports", "healthcheck",
    }  # fmt: skip
    assert set(compose) == {"name", "services", "volumes"}
    for name, settings in compose["services"].items():
        assert set(settings) <= service, name
        assert settings["restart"] in ("no", "always", "on-failure", "unless-stopped")
        assert set(settings.get("depends_on", [])) <= set(compose["services"])


def test_compose_builds_this_dockerfile_from_the_projects_folder(compose):
    build = compose["services"]["trainer"]["build"]
    context = (ROOT / "docker" / build["context"]).resolve()
    assert context == ROOT.resolve() and (context / build["dockerfile"]).samefile(DOCKERFILE)


def test_compose_gives_the_trainer_all_gpus_and_time_to_save(compose):
    trainer = compose["services"]["trainer"]
    assert trainer["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    ]
    assert trainer["stop_grace_period"] == "10m" and trainer["shm_size"] == "8gb"


def test_compose_sets_only_variables_that_something_reads(compose):
    readers = (ROOT / "launch/node.sh").read_text() + ENTRYPOINT.read_text() + DOCKERFILE.read_text()
    for name in compose["services"]["trainer"]["environment"]:
        assert name in readers, name


def test_compose_mounts_what_the_image_declares(compose):
    mounts = [volume.rsplit("}", 1)[-1].removesuffix(":ro") for volume in compose["services"]["trainer"]["volumes"]]
    assert {mount.split(":")[1] for mount in mounts} == {"/data", "/runs", "/cache"}
    named = {volume.split(":")[0] for volume in compose["services"]["trainer"]["volumes"] if volume[0] not in "$./"}
    assert named == set(compose["volumes"])


def test_compose_shows_tensorboard_to_this_machine_only(compose):
    tensorboard = compose["services"]["tensorboard"]
    assert tensorboard["ports"] == ["127.0.0.1:6006:6006"]
    program, *flags = tensorboard["entrypoint"]
    done = subprocess.run([program, "--help"], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and all(flag in done.stdout for flag in flags if flag.startswith("--"))
