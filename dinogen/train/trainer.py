"""The trainer: everything a run consists of, one step of it, and the loop."""

from collections import abc
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from dinogen.config import RunConfig
from dinogen.data.folder import open_folder
from dinogen.data.loader import Batch, LoaderState, ShardLoader
from dinogen.distributed import from_first_rank
from dinogen.errors import DinogenError
from dinogen.files import atomic_folder
from dinogen.images import to_uint8
from dinogen.kept import Kept, KeptAdam, KeptModule
from dinogen.model_card import PICTURED, Training, write_model_card
from dinogen.opening import WEIGHTS_FILE
from dinogen.reader import Reader
from dinogen.sample import latents
from dinogen.schedule import (
    Stage,
    all_batch_sizes,
    batch_sizes_at,
    ema_beta,
    learning_rate_at,
    stage_at,
)
from dinogen.train import checkpoint as checkpoints
from dinogen.train.building import build_generator, build_teacher, check_against_data, compiled
from dinogen.train.comparing import Comparer
from dinogen.train.ema import make_ema, update_ema
from dinogen.train.health import BadSteps, StepChecks, Verdict
from dinogen.train.judge import make_judge
from dinogen.train.launcher import make_accelerator, obey_environment
from dinogen.train.monitor import Monitor
from dinogen.train.preview import Preview
from dinogen.train.randomness import Randomness
from dinogen.train.rises import RiseWatch, log_rise
from dinogen.train.run_folder import RunFolder
from dinogen.train.run_log import LOG
from dinogen.train.start import fit_coder, fit_wording, start_from_snapshot
from dinogen.train.stopping import SIGNAL_CAME, StopRequest, describe_end
from dinogen.train.trackers import check_trackers
from dinogen.train.watchdog import Watchdog
from dinogen.train.wording import make_wording
from dinogen.train.words_judge import WordsJudge, make_words_judge

CLIP_GRAD_NORM = 10.0  # largest norm of the gradient: an outlier's step is as long as this one's


class Trainer:
    """A training run on this rank.

    Args:
        config: the merged config.

    Raises:
        UsageError, DinogenError: the config, the data or the run's folder do not fit together.
    """

    def __init__(self, config: RunConfig):
        check_trackers(config.trackers)
        config = obey_environment(config)
        self.accelerator = make_accelerator(config.precision)
        self.device = self.accelerator.device
        self.is_main = self.accelerator.is_main_process
        self.rank = self.accelerator.process_index
        self.world_size = self.accelerator.num_processes
        manifest = open_folder(config.data).manifest()
        self.config = config = check_against_data(config, manifest, self.world_size)
        self.folder = RunFolder(Path(config.output))
        from_first_rank(self.folder.lock.check_free, self.device)
        self.folder.check_same_generator(config)
        self.folder.check_same_words(config)
        self.folder.check_same_teacher(config.data, manifest.specs)
        self.training = Training.of(config, manifest)

        self.teacher = build_teacher(config, manifest, self.accelerator)
        randomness = Randomness(config.seed, self.device)
        self.wording = make_wording(config, randomness.latents, self.device)
        sizes = self.wording.reader.sizes if self.wording else {}
        self.network, optimizer = build_generator(config, self.device, sizes)  # bare: so checkpoints hold it
        if config.init_from is not None and not checkpoints.list_checkpoints(self.folder.checkpoints):
            start_from_snapshot(self.network, config)
        self.G_ema = make_ema(self.network)
        if config.machine.compile:
            self.network.forward = compiled(self.network.forward)
        self.G, self.optimizer = self.accelerator.prepare(self.network, optimizer)
        self.comparer = Comparer(config, self.accelerator, self.G, self.teacher, randomness.latents, self.wording)
        self.kept: list[Kept] = [
            KeptModule("generator", self.network),
            KeptModule("ema", self.G_ema),
            KeptAdam("optimizer", self.optimizer.optimizer, self.network),
            randomness,
            *([self.comparer.coder] if config.warmup else []),
            *(term for term in self.comparer.loss.terms if term.keeps),
            *([self.wording] if self.wording else []),
        ]
        self.judge = make_judge(config, self.comparer.see, self.device, self.reader)
        self.cur_nimg, self.cur_step = 0, 0
        loader_state = self.resume() or LoaderState(0, 0)
        self.loader = ShardLoader(
            Path(config.data),
            seed=config.seed,
            rank=self.rank,
            world_size=self.world_size,
            workers=config.machine.workers,
            state=loader_state,
            embeddings=config.words is not None and config.words.source == "images",
        )
        if self.wording is not None:
            fit_wording(self.wording, self.comparer.coder.spec, config.data, self.comparer.code_stage)
        self.make_codes()
        for _, real_batch_size in all_batch_sizes(config):  # one beyond the data is refused now, not at a late stage
            self.loader.batches(real_batch_size, image_resolution=None, stage=None)
        self.bad_steps = BadSteps()
        self.rises = RiseWatch()
        self.stop = StopRequest(config.machine.max_minutes)
        self.asked_to_stop = 0  # what the ranks agreed on: the highest of their requests
        self.watchdog = Watchdog(self.rank, self.world_size, lambda: f"step {self.cur_step}")

    @property
    def reader(self) -> Reader | None:
        """What reads captions; None in a run without text."""
        return self.wording.reader if self.wording else None

    @cached_property
    def words_judge(self) -> WordsJudge | None:
        """What says how well words steer; not opened before it is asked."""
        return self.judge.words if self.judge else make_words_judge(self.config, self.reader, self.device)

    @property
    def signal_received(self) -> int | None:
        """The signal that asked some rank to stop, the same on all of them; None without one."""
        return self.asked_to_stop - SIGNAL_CAME if self.asked_to_stop > SIGNAL_CAME else None

    @property
    def stage(self) -> Stage:
        return stage_at(self.cur_nimg, self.config)

    @property
    def batch_sizes_now(self) -> tuple[int, int]:
        """Generated and real images a step, all ranks together."""
        return batch_sizes_at(self.cur_nimg, self.stage.resolution, self.config)

    # ---- the loop

    def train(self) -> Path:
        """Train until `total_kimg`, `max_minutes` or a signal; save; return the last snapshot.

        Raises:
            DinogenError: too many steps were not finite, another rank is gone, or the last checkpoint could not be
                written.
        """
        if self.complete:
            return self.snapshot
        ended = self.finished
        in_use = self.folder.in_use(self.config, self.teacher.specs, self.describe_devices(), self.device)
        with in_use, self.stop, self.watchdog, self.make_monitor() as monitor:
            while not ended:
                for batches, stage in self.one_stage():
                    before = self.cur_nimg
                    scalars = self.train_step(batches, stage)
                    # Not in the step: a dry run takes steps of the warm-up after later ones.
                    if self.cur_nimg >= self.config.warmup_nimg:
                        self.comparer.coder.clear()
                    monitor.record(self.cur_nimg, scalars)
                    ended = self.asked_to_stop > 0 or self.finished
                    if ended or self.crossed(before, self.config.saving.log_kimg):
                        monitor.log_scalars(stage, self.cur_step)
                    if ended:
                        break
                    self.write_regularly(before, monitor)
            self.save()
            self.attempt(lambda: monitor.show_pictures(self.G_ema))
            self.evaluate(monitor)
            self.save_snapshot()
            monitor.conclude(self.ending)
        return self.snapshot

    def make_monitor(self) -> Monitor:
        preview = Preview(self.config, self.comparer.see, self.teacher.specs, self.device, self.wording)
        return Monitor(self.config, self.cur_nimg, preview, self.stop, writes=self.is_main)

    @property
    def finished(self) -> bool:
        return self.cur_nimg >= self.config.schedule.total_kimg * 1000

    @property
    def complete(self) -> bool:
        """Whether an earlier launch has finished this run, and written all of it."""
        return self.finished and from_first_rank(self.snapshot.exists, self.device)

    @property
    def ending(self) -> str:
        """What ended this launch, for people."""
        return describe_end(self.asked_to_stop, self.cur_nimg, self.config)

    def write_regularly(self, before: int, monitor: Monitor) -> None:
        """Pictures, snapshot and checkpoint, each when its time has come since the clock read `before`."""
        shown = self.crossed(before, self.config.saving.snapshot_kimg)
        judged = self.crossed(before, self.config.saving.evaluate_kimg)
        if shown:
            self.attempt(lambda: monitor.show_pictures(self.G_ema))
            self.attempt(self.save_snapshot)
        if shown or judged:
            self.evaluate(monitor, whole=judged)
        if self.crossed(before, self.config.saving.checkpoint_kimg):
            self.attempt(self.save)

    def evaluate(self, monitor: Monitor, whole: bool = True) -> None:
        """Judge the averaged generator, if the run does so, or how words steer it alone. On all ranks."""
        if whole and self.judge is not None:
            monitor.log_judgement(self.judge.measure(self.G_ema, self.stage))
        elif self.words_judge is not None:
            monitor.log_steering(self.words_judge.measure(self.G_ema, self.stage))

    def crossed(self, before: int, kimg: float | None) -> bool:
        """Whether the clock has just passed a multiple of a number of kimg; None has none."""
        return kimg is not None and int(before / (kimg * 1000)) != int(self.cur_nimg / (kimg * 1000))

    def one_stage(self) -> abc.Generator[tuple[list[Batch], Stage], None, None]:
        """The batches of one step after the other, until what they hold changes."""
        wanted = self.batches_wanted
        batches = self.loader.batches(*wanted)
        while wanted == self.batches_wanted:
            yield list(islice(batches, self.config.batches.accumulation)), self.stage

    @property
    def batches_wanted(self) -> tuple[int, int | None, int, int]:
        """What to ask the loader for: real images a step, the resolution of those that terms look at, if any do, that
        of the pyramids, and how many images they look at."""
        resolution = self.stage.resolution
        each = self.comparer.loss.real_images_each(self.cur_nimg, resolution)
        generated, real = self.batch_sizes_now
        images = resolution if each else None
        return real, images, self.comparer.stage_of_pyramids(self.cur_nimg, resolution), each * generated

    def make_codes(self) -> None:
        """Find what codes are made of, if the warm-up is not over and no checkpoint had it."""
        coder = self.comparer.coder
        if self.cur_nimg >= self.config.warmup_nimg:
            coder.clear()
        elif not coder.parts:
            LOG.info("Making codes of real images for the warm-up.")
            coder.restore(
                from_first_rank(
                    lambda: fit_coder(coder, self.config.data, self.comparer.code_stage, self.wording), self.device
                )
            )
        coder.to(self.device)

    # ---- one step

    def train_step(self, batches: list[Batch], stage: Stage) -> dict[str, Tensor | float]:
        """Draw, look, compare, learn. Returns scalars to log, some still on the device; none if it was skipped.

        Args:
            batches: this rank's shares; their gradients are averaged.
            stage: of all of them: the clock moves when the step is done.
        """
        nimg = self.batch_sizes_now[1] * len(batches)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.cur_nimg, self.config)
        terms = self.comparer.loss.names(self.cur_nimg, stage.resolution)
        checks, losses, statistics = StepChecks(), [], []
        for number, batch in enumerate(batches, 1):
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.G):
                result = self.comparer.compare(batch, stage, checks, self.cur_nimg)
                self.accelerator.backward(result.loss / len(batches))
                self.comparer.laps.lap("generator")
            losses.append(result.loss.detach())
            statistics.append(result.statistics)
        # The ranks' gradients have been averaged by now: all of them see the same norm.
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), CLIP_GRAD_NORM)
        assert norm is not None
        checks.look("the gradient", [norm])
        verdict = checks.verdict(torch.stack(losses).mean(), norm, self.stop.code)
        self.asked_to_stop = verdict.stop
        self.learn(verdict)
        self.cur_nimg += nimg
        self.cur_step += 1
        self.comparer.loss.settle(keep=verdict.fault is None)
        if verdict.fault is not None:
            return {}
        update_ema(self.G_ema, self.network, ema_beta(self.cur_nimg, nimg, self.config.optimizer.ema_kimg))
        if rise := self.rises.note((stage.resolution, terms), verdict):
            log_rise(self.folder.root, self.cur_nimg, rise, [key for batch in batches for key in batch.keys])
        means = {name: torch.stack([each[name] for each in statistics]).mean() for name in statistics[0]}
        return means | {"loss": verdict.loss, "gradient_norm": verdict.gradient_norm}

    def learn(self, verdict: Verdict) -> None:
        """Take a step, unless something was not finite; all ranks decide alike.

        Raises:
            DinogenError: too many steps in a row were not finite.
        """
        scaler = self.accelerator.scaler
        if verdict.fault is None:
            self.optimizer.step()
        elif scaler is not None:
            scaler.update()  # lowers the scale
        self.optimizer.zero_grad()
        if verdict.fault is None:
            self.bad_steps.forget()
        elif scaler is not None and verdict.scale_only and scaler.get_scale() >= 1:
            lowered = f"fp16's scale was too high, now {scaler.get_scale():g}"
            LOG.warning(f"Step {self.cur_step} skipped: {lowered}.")
        else:
            LOG.warning(f"Step {self.cur_step} skipped: not finite first on {verdict.fault}.")
            self.bad_steps.note(verdict.fault)

    # ---- saving and resuming

    def attempt(self, write: Callable[[], object]) -> None:
        """Write if possible: a full disk in the middle of a run is not a reason to lose the run."""
        try:
            write()
        except DinogenError as error:
            LOG.warning(f"Training continues without this: {error}")

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {part.file: part.tensors() for part in self.kept}  # on all ranks: some gather
        from_first_rank(lambda: self.write_checkpoint(tensors), self.device)

    def write_checkpoint(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        scaler = self.accelerator.scaler
        checkpoints.save_checkpoint(
            self.folder.checkpoints,
            self.cur_nimg,
            tensors={file: values for file, values in tensors.items() if values},
            state={
                "cur_step": self.cur_step,
                "loader": vars(self.loader.state),
                "world_size": self.world_size,
                "scaler": scaler.state_dict() if scaler is not None else None,
            },
            keep=self.config.saving.keep_checkpoints,
            keep_every_kimg=self.config.saving.keep_every_kimg,
        )

    def resume(self) -> LoaderState | None:
        """Continue from the last complete checkpoint; returns the loader's state there, None for a new run."""
        found = from_first_rank(lambda: checkpoints.load_newest(self.folder.checkpoints, self.kept), self.device)
        if found is None:
            return None
        path, tensors, state = found
        for part in self.kept:
            if part.file in tensors:
                part.restore(tensors[part.file])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.cur_nimg, self.cur_step = state["cur_nimg"], state["cur_step"]
        LOG.info(f"Resuming from {path} ({self.cur_nimg / 1000:.1f} kimg).")
        return LoaderState(**state["loader"])

    @property
    def snapshot(self) -> Path:
        """Where the snapshot of now is, or will be."""
        return self.folder.snapshots / f"kimg{self.cur_nimg / 1000:010.3f}"

    def save_snapshot(self) -> None:
        """Write the averaged generator as it draws now."""
        self.G_ema.update_w_avg()
        from_first_rank(self.write_snapshot, self.device)

    def write_snapshot(self) -> None:
        if self.snapshot.exists():
            return
        stage = self.stage
        settings = vars(self.config.generator) | {"trained_resolution": stage.resolution, "trained_alpha": stage.alpha}
        with atomic_folder(self.snapshot) as temporary:
            z = latents(0, 0, PICTURED, self.config.generator.z_dim).to(self.device)
            with torch.no_grad():
                samples = to_uint8(self.G_ema(z, stage.resolution, stage.alpha))
            write_model_card(temporary, self.G_ema, self.training, self.cur_nimg, samples)
            if self.wording is not None:
                settings |= self.wording.reader.sizes
                self.wording.reader.save(temporary)
            self.G_ema.save_pretrained(temporary, config=settings)
            (temporary / WEIGHTS_FILE).chmod(0o644)  # safetensors makes it for its owner alone

    # ---- surroundings

    def describe_devices(self) -> dict:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return {"ranks": self.world_size, "device": name, "mixed_precision": self.accelerator.mixed_precision}
