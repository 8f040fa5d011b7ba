"""What can be set, one dataclass a concern; YAML and the command line fill them in (jsonargparse)."""

from dataclasses import dataclass, field
from typing import Literal

from dinogen.errors import UsageError


@dataclass
class TeacherConfig:
    """The frozen network that looks at the images.

    Args:
        name: `tiny`, a hub id such as facebook/dinov2-base, or a folder; must be what the shards were packed with.
        input_size: side of its input in pixels; default 32 for tiny (64 works too), 224 for others.
        layers: tapped layers, counted from 1; default all of tiny, four evenly spaced ones of others.
        levels: sides of the maps from coarse to fine; default 1, 2, 4 … up to the grid or 16.
        fine_layers: layers with levels above 8×8 too; default the last one.
        shard: split its parameters over the ranks: none, fsdp, or auto (from ViT-L up on several ranks).
        dtype: of its parameters: fp32, bf16, or auto (bf16 on CUDA devices that have it, in mixed precision).
        activation_checkpointing: compute its layers again for the gradient instead of keeping what they computed: less
            memory, half as much time again.
    """

    name: str = "tiny"
    input_size: int | None = None
    layers: list[int] | None = None
    levels: list[int] | None = None
    fine_layers: list[int] | None = None
    shard: Literal["none", "fsdp", "auto"] = "auto"
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    activation_checkpointing: bool = False

    def of_spec(self) -> dict:
        """The part that decides the numbers in a pyramid, as `make_teacher` takes it."""
        return {key: getattr(self, key) for key in ("name", "input_size", "layers", "levels", "fine_layers")}


@dataclass
class GeneratorConfig:
    """The network that is trained.

    Args:
        img_resolution: side of the finished images, a power of two from 4 to 1024.
        z_dim: length of a latent.
        w_dim: length of a style.
        mapping_layers: layers of the mapping network.
        channel_base: channels times resolution, before the cap.
        channel_max: cap on the channels of a block.
    """

    img_resolution: int = 32
    z_dim: int = 128
    w_dim: int = 128
    mapping_layers: int = 2
    channel_base: int = 1024
    channel_max: int = 128

    def __post_init__(self) -> None:
        size = self.img_resolution
        if size & (size - 1) or not 4 <= size <= 1024:
            below, above = 2 ** max(2, size.bit_length() - 1), 2 ** min(10, max(2, size.bit_length()))
            raise UsageError(
                f"generator.img_resolution {size} is not a power of two from 4 to 1024; take {below} or {above}"
            )


@dataclass
class ObjectiveConfig:
    """What the generator is trained by.

    Args:
        name: sinkhorn or kernel (match distributions) or paired (the baseline: regression to randomly paired images).
        temperatures: sinkhorn: entropic regularisation, each times the standard deviation of the cost; kernel: its
            range, each times the mean distance.
        iterations: sinkhorn: rounds of the solver.
        self_term: sinkhorn, kernel: what the samples are pushed away from: masked (each other, the diagonal masked) or
            independent (a second batch, at the price of drawing it).
        real_bank: sinkhorn, kernel: images of earlier real batches, all ranks together, that a step compares with too.
        generated_bank: the same with an independent self_term: images of earlier steps that stand in for the second
            batch, so that it need not be drawn.
        bands: sinkhorn, kernel: into so many the embeddings are split by how much they vary along their principal axes,
            each with a transport and a share of the drift of its own: for fine structure. 1 leaves them whole.
        bands_from_kimg: when that sets in. Early on whole embeddings teach more.
        warmup_kimg: sinkhorn, kernel: so long regress to randomly paired images first: that teaches soon what all
            faces have in common, and the drift then how they differ.
        frechet_weight: of a Fréchet loss on whole images' features, added to the objective; 0 leaves it out.
        frechet_from_kimg: when it sets in. Made for the end of training, also of a finished run.
        frechet_memory_kimg: half-life of the images that its moments remember.
    """

    name: Literal["sinkhorn", "kernel", "paired"] = "sinkhorn"
    temperatures: list[float] = field(default_factory=lambda: [0.05])
    iterations: int = 3
    self_term: Literal["masked", "independent"] = "masked"
    real_bank: int = 0
    generated_bank: int = 0
    bands: int = 1
    bands_from_kimg: float = 0.0
    warmup_kimg: float = 0.0
    frechet_weight: float = 0.0
    frechet_from_kimg: float = 0.0
    frechet_memory_kimg: float = 10.0

    def __post_init__(self) -> None:
        require_positive("objective.frechet_memory_kimg", self.frechet_memory_kimg)
        require_positive("objective.bands", self.bands)
        if self.bands > 1 and self.name == "paired":
            raise UsageError(f"objective.bands {self.bands} serves objective.name sinkhorn and kernel; set that, or 1")
        for key in (
            "real_bank", "generated_bank", "bands_from_kimg", "warmup_kimg", "frechet_weight", "frechet_from_kimg",
        ):  # fmt: skip
            if getattr(self, key) < 0:
                raise UsageError(f"objective.{key} {getattr(self, key)} must not be below zero")
        if self.generated_bank and self.self_term != "independent":
            raise UsageError(
                f"objective.generated_bank {self.generated_bank} serves objective.self_term independent only; set that, "
                "or 0"
            )
        if not self.temperatures or min(self.temperatures) <= 0:
            raise UsageError(f"objective.temperatures {self.temperatures} must be positive, such as [0.05]")
        require_positive("objective.iterations", self.iterations)


@dataclass
class ScheduleConfig:
    """How the generator grows. Clock: thousands of real images seen by all ranks together (kimg).

    Args:
        start_resolution: side of the images in the first stage.
        stage_kimg: length of each stage before the last, its fade-in included.
        fade_kimg: length of the fade-in at the beginning of each stage but the first.
    """

    start_resolution: int = 4
    stage_kimg: float = 20.0
    fade_kimg: float = 10.0

    def __post_init__(self) -> None:
        require_positive("schedule.stage_kimg", self.stage_kimg)
        if not 0 <= self.fade_kimg <= self.stage_kimg:
            raise UsageError(
                f"schedule.fade_kimg {self.fade_kimg} must lie between 0 and schedule.stage_kimg {self.stage_kimg}"
            )


@dataclass
class TrainConfig:
    """Length, batches, optimiser and what is written when.

    Args:
        total_kimg: end of training.
        max_minutes: stop and save after so many minutes of this launch, whatever the schedule says.
        batch_size: generated images a step, all ranks together.
        real_batch_size: real images a step, all ranks together; this is what moves the clock.
        batch_size_at: batch_size from a resolution on, as {128: 32}; the real batch shrinks in proportion.
        gradient_accumulation_steps: batches whose gradients are averaged before the optimiser steps.
        learning_rate: of Adam.
        rampup_kimg: the learning rate grows linearly over this.
        decay_kimg: the learning rate falls along a cosine to zero over this, at the end of total_kimg.
        decay_batch_growth: meanwhile both batches are so many times as large: small ones learn sooner, large ones
            more exactly.
        betas: of Adam.
        clip_grad_norm: largest norm of the gradient.
        ema_kimg: half-life of the averaged generator.
        stored_pyramids_from: resolution from which the reals' stored pyramids are used; below it crops are reduced
            to the stage's resolution and shown to the teacher. None: from the teacher's input size up.
        checkpoint_kimg: a checkpoint every so often.
        keep_checkpoints: so many of the newest checkpoints are kept.
        keep_every_kimg: besides, keep for good the first checkpoint after every so many kimg. None: no others.
        snapshot_kimg: a snapshot and pictures every so often.
        log_kimg: scalars every so often.
        evaluate_kimg: judge samples as dinogen evaluate does every so often; None never does. It takes seconds.
        evaluate_count: samples judged each time, compared with as many real images.
        max_bad_steps: so many steps in a row whose gradient is not finite end the run; single ones are skipped.
        rank_timeout_seconds: a rank without a sign of life for so long ends the others.
        compile: compile the generator and the teacher's layers; each stage begins with a wait.
        workers: loader processes a rank.
        init_from: a snapshot, a run or a hub id whose generator a new run starts from; it must have the same sizes,
            save that its img_resolution may be smaller.
    """

    total_kimg: float = 500.0
    max_minutes: float | None = None
    batch_size: int = 64
    real_batch_size: int = 192
    batch_size_at: dict[int, int] = field(default_factory=dict)
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    rampup_kimg: float = 5.0
    decay_kimg: float = 0.0
    decay_batch_growth: int = 1
    betas: tuple[float, float] = (0.9, 0.99)
    clip_grad_norm: float = 10.0
    ema_kimg: float = 6.0
    stored_pyramids_from: int | None = None
    checkpoint_kimg: float = 50.0
    keep_checkpoints: int = 2
    keep_every_kimg: float | None = None
    snapshot_kimg: float = 50.0
    log_kimg: float = 2.0
    evaluate_kimg: float | None = None
    evaluate_count: int = 200
    max_bad_steps: int = 10
    rank_timeout_seconds: float = 60.0
    compile: bool = False
    workers: int = 0
    init_from: str | None = None

    def __post_init__(self) -> None:
        for key in (
            "total_kimg", "batch_size", "real_batch_size", "gradient_accumulation_steps", "learning_rate",
            "decay_batch_growth", "clip_grad_norm", "ema_kimg", "checkpoint_kimg", "keep_checkpoints", "snapshot_kimg",
            "log_kimg", "max_bad_steps", "rank_timeout_seconds",
        ):  # fmt: skip
            require_positive(f"train.{key}", getattr(self, key))
        if self.decay_kimg < 0:
            raise UsageError(f"train.decay_kimg {self.decay_kimg} must not be below zero")
        if self.decay_batch_growth > 1 and not self.decay_kimg:
            raise UsageError(
                f"train.decay_batch_growth {self.decay_batch_growth} serves train.decay_kimg only; set that, or 1"
            )
        for key in ("max_minutes", "keep_every_kimg", "evaluate_kimg"):
            if getattr(self, key) is not None:
                require_positive(f"train.{key}", getattr(self, key))
        if self.evaluate_count < 6:
            raise UsageError(f"train.evaluate_count {self.evaluate_count} is too few to judge by; take at least 6")


@dataclass
class AdversaryConfig:
    """Discriminator heads on the teacher's tokens, beside the objective; for the end of a run, or a finished one.

    Args:
        weight: of their verdict in the generator's loss; 0 leaves them out. At 1 its gradient at the images is about as
            large as the drift's.
        drift_weight: of the objective while they are on; 0 leaves the generator to them alone.
        from_kimg: when they set in.
        from_resolution: first stage that has them.
        rampup_kimg: their weight grows linearly over this, so that they learn before they are heard.
        channels: inside a head.
        learning_rate: of their Adam.
        r1_gamma: of the penalty on their gradient in real tokens.
    """

    weight: float = 0.0
    drift_weight: float = 1.0
    from_kimg: float = 0.0
    from_resolution: int = 4
    rampup_kimg: float = 10.0
    channels: int = 64
    learning_rate: float = 1e-3
    r1_gamma: float = 0.01

    def __post_init__(self) -> None:
        for key in ("weight", "drift_weight", "from_kimg", "rampup_kimg", "r1_gamma"):
            if getattr(self, key) < 0:
                raise UsageError(f"adversary.{key} {getattr(self, key)} must not be below zero")
        require_positive("adversary.learning_rate", self.learning_rate)
        if self.channels < 8 or self.channels % 8:
            raise UsageError(f"adversary.channels {self.channels} must be a multiple of 8")


@dataclass
class RunConfig:
    """One training run.

    Args:
        data: folder of shards with their manifest.
        output: the run's folder; running again with the same one goes on where it stopped.
        seed: of everything random.
        teacher: the frozen network that looks at the images.
        generator: the network that is trained.
        objective: what it is trained by.
        adversary: heads that may join the objective late.
        schedule: how it grows.
        train: length, batches, optimiser, writing.
    """

    data: str
    output: str
    seed: int = 0
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        start, end = self.schedule.start_resolution, self.generator.img_resolution
        if start & (start - 1) or not 4 <= start <= end:
            raise UsageError(
                f"schedule.start_resolution {start} must be a power of two from 4 to generator.img_resolution {end}"
            )


def require_positive(key: str, value: float) -> None:
    """Refuse a value that must be above zero."""
    if not value > 0:
        raise UsageError(f"{key} {value} must be above zero")
