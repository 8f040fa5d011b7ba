"""What `pip install` of a wheel brings: all that the commands open, from any folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("configs", "dinogen", "launch", "shards")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what setuptools builds from."""
    pytest.importorskip("setuptools", reason="setuptools builds the wheel; pip install setuptools wheel")
    source = tmp_path_factory.mktemp("source")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def installed(source, tmp_path_factory) -> Path:
    """The wheel, unpacked."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "."]
    subprocess.run([*command, "."], cwd=source, check=True, timeout=300)
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(next(source.glob("*.whl"))).extractall(folder)
    return folder


def test_it_holds_every_file_but_the_shells(installed):
    files = {path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(ROOT)) for path in files if path.suffix not in (".pyc", ".sh", ".sbatch")}
    assert {name for name in wanted if not (installed / name).exists()} == set()


def test_presets_are_found_by_name(installed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "launch.train", "--config", "faces32", "--data=d", "--output=o", "--print-config"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(installed)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "total_kimg: " in done.stdout, done.stderr


def test_an_editable_install_wins_over_folders_of_the_same_names(source, tmp_path):
    """As the folder into which a checkout was cloned, or the shards beside it."""
    code = "from setuptools.build_meta import build_editable; import sys; build_editable(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=source, check=True, capture_output=True, timeout=300
    )
    site, here = tmp_path / "site", tmp_path / "here"
    zipfile.ZipFile(next(tmp_path.glob("*.whl"))).extractall(site)
    for name in PACKAGES:
        (here / name).mkdir(parents=True)
    # Without the environment's own editable install: of its packages the path alone.
    code = (
        f"import site, sys; sys.path.append({sysconfig.get_path('purelib')!r}); site.addsitedir({str(site)!r}); "
        "import configs, dinogen, launch.cli, shards.options; print(dinogen.__file__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=here, env=environment, capture_output=True, text=True
    )
    assert found.stdout.strip() == str(source / "dinogen" / "__init__.py")
