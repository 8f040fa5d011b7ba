"""Data that several tests share, made once a session."""

import os
import signal
from pathlib import Path

import pytest

from helpers.crop_folder import make_crops
from shards.options import PackOptions
from shards.pack import pack_folder

# A shell that starts the tests in the background makes them ignore Ctrl-C, and nohup a closed terminal. All that they
# start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Two cores, many small operations: a second thread costs more than it brings, here and in started processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test uses the network: npm gives what it has kept, see tests/test_webpage.py.
os.environ["npm_config_offline"] = "true"


@pytest.fixture(scope="session")
def shards32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 drawn crops, packed for the tiny teacher in all stages."""
    folder = tmp_path_factory.mktemp("shards32")
    make_crops(folder / "crops", 48)
    pack_folder(folder / "crops", folder / "shards", PackOptions(teacher="tiny", shard_size=20))
    return folder / "shards"


@pytest.fixture(scope="session")
def captioned32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 drawn crops with captions, packed for the tiny teacher in all stages."""
    folder = tmp_path_factory.mktemp("captioned32")
    make_crops(folder / "crops", 24, captioned=True)
    pack_folder(folder / "crops", folder / "shards", PackOptions(teacher="tiny", shard_size=20))
    return folder / "shards"
