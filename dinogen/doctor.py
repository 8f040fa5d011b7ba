"""Is this machine fit to train, and if not, what to do: versions, devices, communication, folders, data."""

import importlib.metadata
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import psutil
import torch
import torch.distributed as dist
from packaging.requirements import Requirement
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from dinogen.data.folder import LocalFolder, check_file, open_folder
from dinogen.errors import DinogenError
from dinogen.files import make_output_folder, plain_write_errors

PROBE_BYTES = 64 * 2**20
SLOW_WRITE = 50e6  # bytes a second; a checkpoint of the 256×256 preset is about half a gigabyte
LITTLE_SPACE = 20e9  # bytes; checkpoints, the ones being written, snapshots and pictures of a run
LITTLE_SHARED_MEMORY = 1e9  # bytes; Docker gives 64 MB unless told otherwise
CLOCK_SKEW = 5.0  # seconds
COLLECTIVE_TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        verdict: ok; warn, for what works but badly; fix, for what stops a run.
        text: what was found.
        remedy: what to do about it; empty when the verdict is ok.
    """

    verdict: Literal["ok", "warn", "fix"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<5}{self.text}" + (f"\n     → {self.remedy}" if self.remedy else "")


def examine_versions(requirements: Iterable[str] | None = None) -> Iterator[Finding]:
    """This Python, and every package of `requirements`; by default those that dinogen's own metadata asks for."""
    yield Finding("ok", f"Python {sys.version.split()[0]}")
    for line in importlib.metadata.requires("dinogen") or [] if requirements is None else requirements:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        install = f"pip install '{wanted.name}{wanted.specifier}'"
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("fix", f"{wanted.name} is not installed", install)
            continue
        if wanted.specifier.contains(version, prereleases=True):
            yield Finding("ok", f"{wanted.name} {version}")
        else:
            yield Finding("fix", f"{wanted.name} {version} is outside {wanted.specifier}", install)


def examine_devices() -> Iterator[Finding]:
    """GPUs with their memory, the CPU's cores, the machine's memory and the part of it that processes can share."""
    memory = psutil.virtual_memory()
    free = f"{gigabytes(memory.available)} of {gigabytes(memory.total)} memory free"
    yield Finding("ok", f"{os.cpu_count()} CPU cores, {free}")
    if torch.cuda.is_available():
        yield from map(examine_gpu, range(torch.cuda.device_count()))
    elif Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi"):
        yield Finding(
            "fix",
            f"there is an NVIDIA driver, but torch {torch.__version__} finds no GPU",
            f"nvidia-smi shows the driver; this torch needs one for CUDA {torch.version.cuda}. In Docker: --gpus all",
        )
    else:
        yield Finding("warn", "no GPU: training on the CPU", "fine for configs/faces32.yaml; rent a GPU beyond")
    yield examine_compiler()
    shared = Path("/dev/shm")
    if shared.is_dir():
        free = shutil.disk_usage(shared).free
        little = free < LITTLE_SHARED_MEMORY
        remedy = "loader processes and NCCL use it. In Docker: --shm-size 8g; or --machine.workers 0" if little else ""
        yield Finding("warn" if little else "ok", f"{gigabytes(free)} of shared memory free", remedy)


def examine_compiler() -> Finding:
    """Whether torch.compile could work: it writes C, or launchers in C for its GPU kernels."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))), None)
    if compiler is None:
        return Finding("warn", "no C compiler", "needed for torch.compile only: install gcc, or train without")
    return Finding("ok", f"C compiler {compiler}, for torch.compile")


def examine_gpu(index: int) -> Finding:
    """One GPU: its name and memory, and whether it has bf16."""
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    text = f"GPU {index}: {properties.name}, {gigabytes(free)} of {gigabytes(total)} free"
    if properties.major < 8:
        return Finding("warn", f"{text}, no bf16", "launch with MIXED_PRECISION=fp16, or no")
    if free < total / 2:
        return Finding("warn", text, "another process holds the rest: nvidia-smi names it")
    return Finding("ok", text)


def examine_collectives(timeout: timedelta = COLLECTIVE_TIMEOUT) -> Iterator[Finding]:
    """Two processes add numbers, over NCCL where there are two GPUs and over gloo anyway."""
    backends = ["gloo"] + (["nccl"] if torch.cuda.device_count() > 1 else [])
    for backend in backends:
        try:
            with tempfile.TemporaryDirectory() as folder:
                run_within(2 * timeout, add_across_ranks, (backend, f"{folder}/store", timeout))
            yield Finding("ok", f"{backend}: two processes on {socket.gethostname()} agree")
        except (ProcessRaisedException, ProcessExitedException, TimeoutError) as error:
            reason = str(error).strip().splitlines()[-1]
            remedy = f"name the network device: {backend.upper()}_SOCKET_IFNAME=lo or eth0"
            if backend == "nccl":
                remedy += "; NCCL_DEBUG=INFO says more, and NCCL_P2P_DISABLE=1 helps some machines"
            yield Finding("fix", f"{backend}: two processes could not talk ({reason})", remedy)


def run_within(limit: timedelta, work: Callable, arguments: tuple) -> None:
    """Run `work(rank, *arguments)` in two processes.

    Raises:
        TimeoutError: they were not done within `limit`, and were killed: a broken network does not always time out.
    """
    processes = spawn(work, arguments, nprocs=2, join=False)
    assert processes is not None  # as it was not joined
    deadline = time.monotonic() + limit.total_seconds()
    while not processes.join(timeout=1):
        if time.monotonic() > deadline:
            for process in processes.processes:
                if process is not None:
                    process.kill()
            raise TimeoutError(f"no end within {limit.total_seconds():.0f} seconds")


def add_across_ranks(rank: int, backend: str, store: str, timeout: timedelta) -> None:
    """What each of the two processes does."""
    dist.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=2, timeout=timeout)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    total = torch.full((1000,), float(rank + 1), device=device)
    dist.all_reduce(total)
    dist.destroy_process_group()
    if not bool((total == 3).all()):
        raise RuntimeError(f"1 + 2 came out as {total[0].item()}")


def examine_folder(folder: Path) -> Iterator[Finding]:
    """Whether a run can be written below `folder`, how fast, how much of it, and whether its clock is ours."""
    probe = folder / f".doctor{os.getpid()}"
    try:
        make_output_folder(folder)
        with plain_write_errors(folder):
            began, began_at = time.monotonic(), time.time()
            write_and_sync(probe)
            rate = PROBE_BYTES / (time.monotonic() - began)
            skew = probe.stat().st_mtime - began_at
    except DinogenError as error:
        yield Finding("fix", str(error), "a run cannot be saved here")
        return
    finally:
        with suppress(OSError):
            probe.unlink()
    slow = rate < SLOW_WRITE
    remedy = "training waits while a checkpoint is written: take a faster disk, or a larger --saving.checkpoint_kimg"
    yield Finding("warn" if slow else "ok", f"{folder}: writes {rate / 1e6:.0f} MB a second", remedy if slow else "")
    free = shutil.disk_usage(folder).free
    little = free < LITTLE_SPACE
    remedy = "make room: snapshots add up" if little else ""
    yield Finding("warn" if little else "ok", f"{folder}: {gigabytes(free)} free", remedy)
    if abs(skew) > CLOCK_SKEW + PROBE_BYTES / rate:
        yield Finding(
            "warn",
            f"{folder}: its clock is {skew:+.0f} seconds from this machine's",
            "set both by NTP: Docker's health check compares them",
        )


def write_and_sync(path: Path) -> None:
    """Write `PROBE_BYTES` that do not compress, and wait until they are on the disk."""
    block = os.urandom(2**20)
    with open(path, "wb") as file:
        for _ in range(PROBE_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def examine_data(data: str, teacher: str | None = None) -> Iterator[Finding]:
    """Whether the shards are all there, and their teacher at hand. Contents are left to `dinogen verify`.

    Args:
        data: folder or address of the shards.
        teacher: folder of a local copy of their teacher; None looks where `dinogen pack` found it.
    """
    from dinogen.teachers import teacher_of  # takes seconds to import, which the processes above do not need

    try:
        folder = open_folder(data)
        manifest = folder.manifest()
        held = f"{manifest.samples} samples in {len(manifest.shards)} shards"
        yield Finding("ok", f"{data}: {held}, of {manifest.specs.describe()}")
        if isinstance(folder, LocalFolder):
            for record in manifest.shards:
                check_file(folder.path / record.name, record, "size")
        specs = teacher_of(manifest.specs, teacher, "--teacher").specs
        yield Finding("ok", f"{data}: its teacher is at hand ({specs.fingerprint})")
    except DinogenError as error:
        text, _, remedy = str(error).partition("; ")
        yield Finding("fix", text, remedy or "give the folder that dinogen pack wrote")


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
