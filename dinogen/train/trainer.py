"""The trainer: everything a run consists of, one step of it, and the loop."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.data.loader import Batch, LoaderState, ShardLoader
from dinogen.distributed import any_rank, gather_rows
from dinogen.errors import DinogenError
from dinogen.files import atomic_folder
from dinogen.images import to_float
from dinogen.networks import Generator
from dinogen.objectives import ObjectiveResult, make_objective
from dinogen.pyramid import Pyramid, complete
from dinogen.schedule import (
    Stage,
    batch_sizes_at,
    ema_beta,
    learning_rate_at,
    objective_at,
    stage_of_run,
    uses_stored_pyramids,
)
from dinogen.train import checkpoint as checkpoints
from dinogen.train.bad_steps import BadSteps
from dinogen.train.building import build_generator, build_teacher, check_batches_divide, make_accelerator
from dinogen.train.ema import make_ema, update_ema
from dinogen.train.judge import make_judge
from dinogen.train.late import LatePhases
from dinogen.train.monitor import Monitor
from dinogen.train.run_folder import RunFolder
from dinogen.train.start import start_from_snapshot
from dinogen.train.stopping import StopRequest


class Trainer:
    """A training run on this rank.

    Args:
        config: the merged config.

    Raises:
        UsageError, DinogenError: the config, the data or the run's folder do not fit together.
    """

    def __init__(self, config: RunConfig):
        self.config = config
        self.accelerator = make_accelerator(config)
        self.device = self.accelerator.device
        self.is_main = self.accelerator.is_main_process
        self.rank = self.accelerator.process_index
        self.world_size = self.accelerator.num_processes
        self.batch_sizes = check_batches_divide(config.train, self.world_size)
        self.folder_of_data = Path(config.data)
        self.folder = RunFolder(Path(config.output))
        self.folder.check_same_generator(config)

        self.teacher = build_teacher(config.teacher, self.device, self.world_size)
        self.objectives = {name: make_objective(config.objective, name) for name in ("paired", config.objective.name)}
        self.late = LatePhases(config, self.teacher.spec, self.look, self.device)
        self.judge = make_judge(config, self.look, self.device)
        network, optimizer = build_generator(config, self.device)
        if config.train.init_from is not None and not checkpoints.list_checkpoints(self.folder.checkpoints):
            start_from_snapshot(network, config)
        self.G_ema = make_ema(network)
        self.G, self.optimizer = self.accelerator.prepare(network, optimizer)
        # All ranks draw the latents of the whole batch and keep their share: the run does not depend on their number.
        self.latent_rng = torch.Generator().manual_seed(config.seed)
        self.cur_nimg = 0
        self.cur_step = 0
        loader_state = self.resume() or LoaderState(0, 0)
        self.loader = ShardLoader(
            Path(config.data),
            self.teacher.spec,
            seed=config.seed,
            rank=self.rank,
            world_size=self.world_size,
            workers=config.train.workers,
            state=loader_state,
        )
        for _, real_batch_size in self.batch_sizes:  # a batch beyond the data is refused now, not at a late stage
            self.loader.batches(real_batch_size, image_resolution=None)
        self.started = time.monotonic()
        self.bad_steps = BadSteps(config.train.max_bad_steps)
        self.stop = StopRequest()

    @property
    def network(self) -> Generator:
        """The generator without accelerate's wrapping."""
        return self.accelerator.unwrap_model(self.G)

    @property
    def signal_received(self) -> int | None:
        """The signal that asked this rank to stop, if one did."""
        return self.stop.signal

    @property
    def stage(self) -> Stage:
        return stage_of_run(self.cur_nimg, self.config)

    # ---- the loop

    def train(self) -> Path:
        """Train until `total_kimg`, `max_minutes` or a signal; save; return the last snapshot.

        Raises:
            DinogenError: too many steps were not finite, or the last checkpoint could not be written.
        """
        self.started = time.monotonic()
        if self.is_main:
            self.folder.prepare(self.config, self.describe_devices())
        ended = self.finished
        with self.stop, Monitor(self) as monitor:
            while not ended:
                for batch, stage in self.one_stage():
                    before = self.cur_nimg
                    monitor.record(self.train_step(batch, stage))
                    stopping = self.minutes_left <= 0 or self.stop.signal is not None
                    ended = any_rank(stopping, self.device) or self.finished
                    if ended or self.crossed(before, self.config.train.log_kimg):
                        monitor.log_scalars(stage)
                    if ended:
                        break
                    self.write_regularly(before, monitor)
            self.save()
            self.attempt(monitor.show_pictures)
            if self.judge is not None:
                monitor.write_scalars(self.judge.measure(self.G_ema, self.stage))
            return self.save_snapshot()

    @property
    def minutes_left(self) -> float:
        """Until `max_minutes` of this launch are over."""
        limit = self.config.train.max_minutes
        return math.inf if limit is None else limit - (time.monotonic() - self.started) / 60

    @property
    def finished(self) -> bool:
        return self.cur_nimg >= self.config.train.total_kimg * 1000

    def write_regularly(self, before: int, monitor: Monitor) -> None:
        """Pictures, snapshot and checkpoint, each when its time has come since the clock read `before`."""
        if self.crossed(before, self.config.train.snapshot_kimg):
            self.attempt(monitor.show_pictures)
            self.attempt(self.save_snapshot)
        if self.judge is not None and self.crossed(before, self.config.train.evaluate_kimg):
            monitor.write_scalars(self.judge.measure(self.G_ema, self.stage))
        if self.crossed(before, self.config.train.checkpoint_kimg):
            self.attempt(self.save)

    def crossed(self, before: int, kimg: float) -> bool:
        """Whether the clock has just passed a multiple of so many kimg."""
        return int(before / (kimg * 1000)) != int(self.cur_nimg / (kimg * 1000))

    def one_stage(self) -> Iterator[tuple[Batch, Stage]]:
        """Batches, until the resolution changes."""
        resolution = self.stage.resolution
        stored = uses_stored_pyramids(resolution, self.teacher.spec.input_size, self.config.train)
        batches = self.loader.batches(
            batch_sizes_at(resolution, self.config.train)[1],
            image_resolution=None if stored and not self.late.want_images(resolution) else resolution,
            pyramid=stored,
        )
        for batch in batches:
            yield batch, self.stage
            if self.stage.resolution != resolution:
                return

    # ---- one step

    def train_step(self, batch: Batch, stage: Stage) -> dict[str, Tensor]:
        """Draw, look, compare, learn. Returns scalars to log, still on the device."""
        train = self.config.train
        batch_size, real_batch_size = batch_sizes_at(stage.resolution, train)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.cur_nimg, train)
        with self.accelerator.accumulate(self.G):
            result = self.compare(batch, stage, batch_size)
            self.accelerator.backward(result.loss)
            statistics = {"loss": result.loss.detach(), **result.statistics}
            learned = self.learn() if self.accelerator.sync_gradients else None
        self.cur_nimg += real_batch_size
        self.cur_step += 1
        if learned is None:
            return statistics
        if not learned.isfinite():
            self.accelerator.print(self.bad_steps.note(self.cur_step, statistics))
            return {}
        self.bad_steps.forget()
        nimg = real_batch_size * train.gradient_accumulation_steps
        update_ema(self.G_ema, self.network, ema_beta(self.cur_nimg, nimg, train))
        return statistics | {"gradient_norm": learned}

    def learn(self) -> Tensor:
        """Clip the gradient and take a step, unless the gradient is not finite; returns its norm.

        The ranks' gradients have been averaged by now, so that all of them see the same norm and skip the same steps.
        """
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.config.train.clip_grad_norm).detach()
        # A gradient scaler (fp16) skips by itself, and has to be stepped to lower its scale.
        if norm.isfinite() or self.accelerator.scaler is not None:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def compare(self, batch: Batch, stage: Stage, batch_size: int) -> ObjectiveResult:
        """The objective's verdict on freshly drawn images."""
        objective = objective_at(self.cur_nimg, self.config.objective)
        real = self.real_pyramid(batch)
        images = self.G(self.latents(batch_size), stage.resolution, stage.alpha)
        generated = self.look(images)
        other = None
        if objective != "paired" and self.config.objective.self_term == "independent":
            with torch.no_grad():
                other = self.look(self.network(self.latents(batch_size), stage.resolution, stage.alpha))
        result = self.objectives[objective](generated, real, other)
        return self.late.join(result, generated, real, images, batch, self.cur_nimg)

    def look(self, images: Tensor) -> Pyramid:
        """What the teacher sees, in the precision of training; a collective where it is sharded."""
        with self.accelerator.autocast():
            return self.teacher(images)

    def latents(self, batch_size: int) -> Tensor:
        """This rank's share of the whole batch's latents, `[batch_size / ranks, z_dim]`."""
        z = torch.randn(batch_size, self.config.generator.z_dim, generator=self.latent_rng)
        return z.chunk(self.world_size)[self.rank].to(self.device)

    @torch.no_grad()
    def real_pyramid(self, batch: Batch) -> Pyramid:
        """The reals' pyramid: as stored, or computed from crops that are as coarse as the stage's images."""
        if batch.pyramid is not None:
            stored = {name: level.to(self.device, non_blocking=True) for name, level in batch.pyramid.items()}
            return complete(stored, self.teacher.spec)
        return self.look(to_float(batch.images.to(self.device, non_blocking=True)))

    # ---- saving and going on

    def on_main(self, write: Callable[[], None]) -> None:
        """Write on the first rank; if it cannot, all ranks raise together, so that none waits for another.

        Raises:
            DinogenError: what the first rank met.
        """
        error: DinogenError | None = None
        if self.is_main:
            try:
                write()
            except DinogenError as caught:
                error = caught
        if any_rank(error is not None, self.device):
            raise error or DinogenError("the first rank could not write; its message says why")

    def attempt(self, write: Callable[[], object]) -> None:
        """Write if possible: a full disk in the middle of a run is no reason to lose the run."""
        try:
            write()
        except DinogenError as error:
            self.accelerator.print(f"\nTraining goes on without this: {error}")

    def save(self) -> None:
        """Write a checkpoint."""
        random_states = gather_rows(checkpoints.random_states(self.device)[None].to(self.device)).cpu()
        self.on_main(lambda: self.write_checkpoint(random_states))

    def write_checkpoint(self, random_states: Tensor) -> None:
        scaler = self.accelerator.scaler
        checkpoints.save_checkpoint(
            self.folder.checkpoints,
            self.cur_nimg,
            tensors={
                "generator": self.network.state_dict(),
                "ema": self.G_ema.state_dict(),
                "optimizer": checkpoints.optimizer_tensors(self.optimizer.optimizer, self.network),
                "random": {"latents": self.latent_rng.get_state(), "ranks": random_states},
                **self.late.tensors(),
            },
            state={
                "cur_step": self.cur_step,
                "loader": vars(self.loader.state),
                "world_size": self.world_size,
                "scaler": scaler.state_dict() if scaler is not None else None,
            },
        )

    def resume(self) -> LoaderState | None:
        """Go on from the last complete checkpoint; returns the loader's state there, None for a new run."""
        found = checkpoints.list_checkpoints(self.folder.checkpoints)
        if not found:
            return None
        tensors, state = checkpoints.load_checkpoint(found[-1])
        self.network.load_state_dict(tensors["generator"])
        self.G_ema.load_state_dict(tensors["ema"])
        checkpoints.restore_optimizer(self.optimizer.optimizer, self.network, tensors["optimizer"])
        self.latent_rng.set_state(tensors["random"]["latents"])
        self.late.restore(tensors)
        if state["world_size"] == self.world_size:
            checkpoints.restore_random_states(tensors["random"]["ranks"][self.rank], self.device)
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.cur_nimg, self.cur_step = state["cur_nimg"], state["cur_step"]
        self.accelerator.print(f"Going on from {found[-1]} ({self.cur_nimg / 1000:.1f} kimg).")
        return LoaderState(**state["loader"])

    def save_snapshot(self) -> Path:
        """Write the averaged generator as it draws now."""
        target = self.folder.snapshots / f"kimg{self.cur_nimg / 1000:010.3f}"
        self.G_ema.update_w_avg()
        self.on_main(lambda: self.write_snapshot(target))
        return target

    def write_snapshot(self, target: Path) -> None:
        if target.exists():
            return
        stage = self.stage
        settings = vars(self.config.generator) | {"trained_resolution": stage.resolution, "trained_alpha": stage.alpha}
        with atomic_folder(target) as temporary:
            self.G_ema.save_pretrained(temporary, config=settings)

    # ---- surroundings

    def describe_devices(self) -> dict:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {"ranks": self.world_size, "device": name, "mixed_precision": self.accelerator.mixed_precision}
