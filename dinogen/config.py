"""What can be set: one dataclass for each component. YAML and the command line fill them in (jsonargparse).

A block that may be absent is None: what it configures is then off. Numbers that no preset sets and nobody should set
are constants beside the code that uses them.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from dinogen.errors import UsageError


@dataclass
class TeacherConfig:
    """The frozen network that looks at the images. Which one it is, and what it is shown, comes from the shards.

    Args:
        path: folder of a local copy of the teacher's weights, for machines without a network.
        shard: how parameters are split over the ranks: none, fsdp, or auto (fsdp from ViT-L up on several ranks).
        precision: type of its parameters: fp32, bf16, or auto (bf16 in mixed precision on a GPU that has it, and on a
            CPU that has it).
        activation_checkpointing: compute layers again for the gradient instead of keeping their results. It takes less
            memory and half as much time again.
    """

    path: str | None = None
    shard: Literal["none", "fsdp", "auto"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    activation_checkpointing: bool = False


@dataclass
class GeneratorConfig:
    """The network that is trained.

    Args:
        img_resolution: side of the finished images in pixels, a power of two from 4 to 1024.
        z_dim: length of a latent.
        w_dim: length of a style.
        mapping_layers: number of layers of the mapping network.
        channel_base: channels times resolution, before the cap.
        channel_max: most channels of a block.
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
        name: sinkhorn or kernel (match distributions), or paired (the baseline: regression to randomly paired images).
        temperatures: strengths of the matching's blur. sinkhorn: entropic regularisation, in standard deviations of
            the cost. kernel: range, in mean distances.
        bands: number of bands into which embeddings are split along their principal axes. Each has a transport and an
            equal share of the drift, which serves fine structure. 1 leaves embeddings whole.
        bands_from_kimg: kimg at which bands begin. Early on, whole embeddings teach more.
        negatives: the generated images that push others away. batch: those of the same step. previous: those of the
            step before, which are independent of it; a checkpoint then keeps what the teacher saw of them.
    """

    name: Literal["sinkhorn", "kernel", "paired"] = "sinkhorn"
    temperatures: list[float] = field(default_factory=lambda: [0.05])
    bands: int = 1
    bands_from_kimg: float = 0.0
    negatives: Literal["batch", "previous"] = "batch"

    def __post_init__(self) -> None:
        require(self, "objective", "positive", "bands")
        require(self, "objective", "not negative", "bands_from_kimg")
        if self.bands > 1 and self.name == "paired":
            raise UsageError(f"objective.bands {self.bands} serves objective.name sinkhorn and kernel; set that, or 1")
        if self.negatives == "previous" and self.name != "sinkhorn":
            raise UsageError("objective.negatives previous serves objective.name sinkhorn; set that, or batch")
        if not self.temperatures or min(self.temperatures) <= 0:
            raise UsageError(f"objective.temperatures {self.temperatures} must be positive, such as [0.05]")


@dataclass
class WarmupConfig:
    """A start without the teacher: each real image is regressed from a code made of its own stored pyramid.

    Faces differ from the first minute. From a random start the objective would learn first what all faces share, and
    burn that one face into all samples.

    Args:
        stage_kimg: length of each of its stages in kimg by resolution, as {32: 7, 64: 14}. The schedule begins after
            them.
        batch: number of images a step, all ranks together.
        learning_rate: step size of Adam, which falls to zero over the last third of the last stage.
    """

    stage_kimg: dict[int, float] = field(default_factory=lambda: {32: 7.0})
    batch: int = 32
    learning_rate: float = 2e-3

    def check(self) -> None:
        """Refuse impossible values. (A parser hides errors in the creation of what may be absent.)"""
        require(self, "warmup", "positive", "batch", "learning_rate")
        sides = list(self.stage_kimg)
        if not sides or sides != sorted(sides) or min(self.stage_kimg.values()) <= 0:
            raise UsageError(
                f"warmup.stage_kimg {self.stage_kimg} must name stages from coarse to fine, each with its kimg, "
                "such as {32: 7, 64: 14}"
            )

    @property
    def kimg(self) -> float:
        """Length of all of it."""
        return sum(self.stage_kimg.values())


@dataclass
class FrechetConfig:
    """A Fréchet loss on whole images' features, beside the objective; for the end of a run, or a finished one.

    Args:
        weight: factor of its loss.
        from_kimg: kimg at which it begins.
    """

    weight: float = 1.0
    from_kimg: float = 0.0

    def check(self) -> None:
        """Refuse impossible values. (A parser hides errors in the creation of what may be absent.)"""
        require(self, "frechet", "positive", "weight")
        require(self, "frechet", "not negative", "from_kimg")


@dataclass
class HeadsConfig:
    """Discriminator heads on the teacher's tokens, beside the objective; for the end of a run, or a finished one.

    Args:
        weight: factor of their verdict in the generator's loss. At 1 its gradient at the images is about as large as
            the drift's.
        drift_weight: factor of the drift while heads are on. 0 leaves the generator to the heads alone.
        from_kimg: kimg at which they begin.
        from_resolution: resolution in pixels of the first stage that has them.
        rampup_kimg: length of the linear rise of their weight, in kimg, in which the heads learn before they are heard.
    """

    weight: float = 0.5
    drift_weight: float = 1.0
    from_kimg: float = 0.0
    from_resolution: int = 4
    rampup_kimg: float = 10.0

    def check(self) -> None:
        """Refuse impossible values. (A parser hides errors in the creation of what may be absent.)"""
        require(self, "heads", "positive", "weight")
        require(self, "heads", "not negative", "drift_weight", "from_kimg", "rampup_kimg")

    def are_on(self, cur_nimg: int, resolution: int) -> bool:
        """Whether heads take part at a clock reading and a stage."""
        return cur_nimg >= self.from_kimg * 1000 and resolution >= self.from_resolution


@dataclass
class SlicesConfig:
    """Sliced transport of the pixels' finest octaves, beside the objective: detail that a teacher hardly sees.

    Args:
        weight: factor of its loss.
        from_kimg: kimg at which it begins.
        from_resolution: resolution in pixels of the first stage that has it, 32 or more.
    """

    weight: float = 1.0
    from_kimg: float = 0.0
    from_resolution: int = 32

    def check(self) -> None:
        """Refuse impossible values. (A parser hides errors in the creation of what may be absent.)"""
        require(self, "slices", "positive", "weight")
        require(self, "slices", "not negative", "from_kimg")
        if self.from_resolution < 32:
            raise UsageError(f"slices.from_resolution {self.from_resolution} is too small; take 32 or more")


@dataclass
class WordsConfig:
    """Captions that steer the generator: it is drawn with words, and the objective compares images with their captions.

    Args:
        encoder: the frozen text encoder: a hub id, a folder, or `embedded`, which needs no download and knows no
            meanings.
        source: what real images are known by: their captions, or CLIP's embeddings of the images themselves, which
            need no captions. The shards must hold them, and the encoder must be the same CLIP.
        drop: share of the captions that are replaced by none, so that the generator also draws without words.
        attention: features look at the caption's tokens, where the encoder has some and captions are the source.
        guidance: the most that words can be exaggerated by, learned in half of the steps; 1 leaves it out.
    """

    encoder: str = "embedded"
    source: Literal["captions", "images"] = "captions"
    drop: float = 0.1
    attention: bool = True
    guidance: float = 1.0

    def check(self) -> None:
        """Refuse impossible values. (A parser hides errors in the creation of what may be absent.)"""
        if not 0 <= self.drop < 1:
            raise UsageError(f"words.drop {self.drop} must lie between 0 and 1, such as 0.1")
        if not 1 <= self.guidance <= 10:
            raise UsageError(f"words.guidance {self.guidance} must lie between 1 and 10, such as 2.5")
        if not self.encoder:
            raise UsageError("words.encoder is empty; take 'embedded', a hub id or a saved model's folder")


@dataclass
class ScheduleConfig:
    """How long training takes and how the generator grows. 1 kimg is a thousand real images seen by all ranks.

    Args:
        total_kimg: end of training in kimg.
        start_resolution: side of the images in the first stage, in pixels.
        stage_kimg: length of each stage before the last in kimg, with its fade-in.
        stage_kimg_at: other lengths by resolution, as {64: 40}.
        fade_kimg: length of the fade-in at the beginning of each stage but the first, in kimg.
    """

    total_kimg: float = 500.0
    start_resolution: int = 4
    stage_kimg: float = 20.0
    stage_kimg_at: dict[int, float] = field(default_factory=dict)
    fade_kimg: float = 10.0

    def __post_init__(self) -> None:
        require(self, "schedule", "positive", "total_kimg", "stage_kimg")
        shortest = min(self.stage_kimg, *self.stage_kimg_at.values(), math.inf)
        if not 0 <= self.fade_kimg <= shortest:
            raise UsageError(
                f"schedule.fade_kimg {self.fade_kimg} must lie between 0 and the shortest stage, {shortest} kimg"
            )


@dataclass
class OptimizerConfig:
    """Adam, and the averaged generator.

    Args:
        learning_rate: step size of Adam.
        learning_rate_at: other step sizes from a resolution on, as {128: 5.0e-4}.
        rampup_kimg: length of the linear rise of the learning rate at the start, in kimg.
        decay_kimg: length of the fall of the learning rate to zero at the end, along a cosine, in kimg.
        ema_kimg: half-life of the averaged generator in kimg.
    """

    learning_rate: float = 1e-3
    learning_rate_at: dict[int, float] = field(default_factory=dict)
    rampup_kimg: float = 5.0
    decay_kimg: float = 0.0
    ema_kimg: float = 6.0

    def __post_init__(self) -> None:
        require(self, "optimizer", "positive", "learning_rate", "ema_kimg")
        require(self, "optimizer", "not negative", "rampup_kimg", "decay_kimg")


@dataclass
class BatchesConfig:
    """Images a step, all ranks together.

    Args:
        generated: number of generated images a step.
        real: number of real images a step; these move the clock.
        generated_at: number of generated images from a resolution on, as {128: 32}. Reals change in proportion.
        accumulation: number of batches whose gradients are averaged for one step of the optimiser.
        decay_growth: factor of both batches while the learning rate falls. Small batches learn sooner, large ones more
            exactly.
    """

    generated: int = 64
    real: int = 192
    generated_at: dict[int, int] = field(default_factory=dict)
    accumulation: int = 1
    decay_growth: int = 1

    def __post_init__(self) -> None:
        require(self, "batches", "positive", "generated", "real", "accumulation", "decay_growth")


@dataclass
class SavingConfig:
    """What is written when.

    Args:
        checkpoint_kimg: distance between two checkpoints in kimg.
        keep_checkpoints: number of the newest checkpoints that are kept.
        keep_every_kimg: distance in kimg between checkpoints that are kept for good. The default keeps none.
        snapshot_kimg: distance between two snapshots, with pictures, in kimg.
        log_kimg: distance between two points of the logged scalars in kimg.
        evaluate_kimg: distance in kimg between judgements as by dinogen evaluate. The default never judges. Each takes
            seconds.
        evaluate_count: number of samples in each judgement, compared with as many real images; in a run with words at
            each snapshot as well.
    """

    checkpoint_kimg: float = 50.0
    keep_checkpoints: int = 2
    keep_every_kimg: float | None = None
    snapshot_kimg: float = 50.0
    log_kimg: float = 2.0
    evaluate_kimg: float | None = None
    evaluate_count: int = 200

    def __post_init__(self) -> None:
        require(self, "saving", "positive", "checkpoint_kimg", "keep_checkpoints", "snapshot_kimg", "log_kimg")
        require(self, "saving", "positive", "keep_every_kimg", "evaluate_kimg")
        if self.evaluate_count < 6:
            raise UsageError(f"saving.evaluate_count {self.evaluate_count} is too few to judge by; take at least 6")


@dataclass
class MachineConfig:
    """How this machine does the work; the result does not depend on it, up to rounding.

    Args:
        workers: number of loader processes of each rank; 0 reads in the trainer's own process.
        compile: compile the generator and the teacher's layers. Each stage begins with a wait.
        max_minutes: wall time of this launch in minutes, after which it saves and stops.
    """

    workers: int = 0
    compile: bool = False
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        require(self, "machine", "not negative", "workers")
        require(self, "machine", "positive", "max_minutes")


@dataclass
class RunConfig:
    """One training run.

    Args:
        data: folder of shards with their manifest, or its address.
        output: folder of the run. Running the same command again resumes it.
        seed: start of all random numbers.
        init_from: a snapshot, a run or a hub id whose generator a new run starts from. It must have the same sizes, but
            its img_resolution may be smaller.
        precision: arithmetic of training: no (fp32), bf16, fp16, or auto (what accelerate's launcher says; without it
            bf16 on a GPU that has it, else fp32). The teacher may have its own.
        trackers: names of what records scalars: tensorboard, or others that accelerate knows, such as wandb.
        teacher: the frozen network that looks at the images.
        generator: the network that is trained.
        objective: what it is trained by.
        warmup: a start without the teacher, from codes of the real images; off when absent.
        frechet: a Fréchet loss beside the objective; off when absent.
        heads: discriminator heads beside the objective; off when absent.
        slices: sliced transport of fine detail beside the objective; off when absent.
        words: captions that steer the generator; off when absent.
        schedule: how long, and how it grows.
        optimizer: Adam and the average.
        batches: images a step.
        saving: what is written when.
        machine: how this machine does the work.
    """

    data: str
    output: str
    seed: int = 0
    init_from: str | None = None
    precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    warmup: WarmupConfig | None = None
    frechet: FrechetConfig | None = None
    heads: HeadsConfig | None = None
    slices: SlicesConfig | None = None
    words: WordsConfig | None = None
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batches: BatchesConfig = field(default_factory=BatchesConfig)
    saving: SavingConfig = field(default_factory=SavingConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"seed {self.seed}: take a whole number from 0 to {2**32 - 1}")
        for block in (self.warmup, self.frechet, self.heads, self.slices, self.words):
            if block is not None:
                block.check()
        if self.slices is not None and self.batches.real < 2 * self.batches.generated:
            raise UsageError(
                f"slices compares two sets of real images: batches.real {self.batches.real} must be at least twice "
                f"batches.generated {self.batches.generated}"
            )
        if self.words is not None and self.objective.name != "sinkhorn":
            raise UsageError(f"objective.name {self.objective.name} knows no words; take sinkhorn, or drop words")
        start, end = self.schedule.start_resolution, self.generator.img_resolution
        if start & (start - 1) or not 4 <= start <= end:
            raise UsageError(
                f"schedule.start_resolution {start} must be a power of two from 4 to generator.img_resolution {end}"
            )
        for side in self.warmup.stage_kimg if self.warmup else ():
            if side & (side - 1) or not 4 <= side <= end:
                raise UsageError(
                    f"warmup.stage_kimg: {side} must be a power of two from 4 to generator.img_resolution {end}"
                )
        if self.batches.decay_growth > 1 and not self.optimizer.decay_kimg:
            raise UsageError(
                f"batches.decay_growth {self.batches.decay_growth} serves optimizer.decay_kimg only; set that, or 1"
            )

    @property
    def warmup_nimg(self) -> int:
        """The clock at which the warm-up ends and the schedule begins."""
        return int(self.warmup.kimg * 1000) if self.warmup else 0


def require(config: Any, block: str, what: Literal["positive", "not negative"], *keys: str) -> None:
    """Refuse values that must be above zero, or must not be below it; None passes."""
    for key in keys:
        value = getattr(config, key)
        if value is not None and not (0 < value < math.inf if what == "positive" else 0 <= value < math.inf):
            rule = "must be above zero" if what == "positive" else "must not be below zero"
            rule = "must be a finite number" if value in (math.inf, -math.inf) else rule
            raise UsageError(f"{block}.{key} {value} {rule}")


FROM_SHARDS = "gone: the shards' manifest says it; choose it there, as in pack --levels [1, 2, 4]"
REFUTED = "gone: it did not help in trials"
STORED = "gone: every stage's pyramids come from the shards"
CONSTANT = "gone: it is a constant now"

# Keys of earlier versions, and what they are called now.
RENAMED = {
    "teacher.name": "teacher.path",
    "teacher.dtype": "teacher.precision",
    **dict.fromkeys((f"teacher.{key}" for key in ("input_size", "layers", "levels", "fine_layers")), FROM_SHARDS),
    **dict.fromkeys((f"objective.{key}" for key in ("self_term", "real_bank", "generated_bank")), REFUTED),
    **dict.fromkeys(("objective.iterations", "objective.frechet_memory_kimg"), CONSTANT),
    "objective.warmup_kimg": "gone: give warmup.stage_kimg",
    "objective.frechet_weight": "frechet.weight",
    "objective.frechet_from_kimg": "frechet.from_kimg",
    **dict.fromkeys((f"adversary.{key}" for key in ("channels", "learning_rate", "r1_gamma")), CONSTANT),
    "adversary": "heads",
    "train.total_kimg": "schedule.total_kimg",
    "train.batch_size": "batches.generated",
    "train.real_batch_size": "batches.real",
    "train.batch_size_at": "batches.generated_at",
    "train.gradient_accumulation_steps": "batches.accumulation",
    "train.decay_batch_growth": "batches.decay_growth",
    **{f"train.{key}": f"optimizer.{key}" for key in ("learning_rate", "rampup_kimg", "decay_kimg", "ema_kimg")},
    **{f"train.{key}": f"saving.{key}" for key in SavingConfig.__dataclass_fields__},
    **{f"train.{key}": f"machine.{key}" for key in MachineConfig.__dataclass_fields__},
    "train.init_from": "init_from",
    **dict.fromkeys(("train.stored_pyramids_from", "teacher.stored_pyramids_from"), STORED),
    **dict.fromkeys((f"train.{key}" for key in ("clip_grad_norm", "max_bad_steps", "rank_timeout_seconds")), CONSTANT),
    "train.betas": "gone: Adam's are [0.9, 0.99] now",
}
