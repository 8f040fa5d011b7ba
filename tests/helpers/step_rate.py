"""Started by a test on one or several ranks: how fast the last stage's steps are.

python step_rate.py STEPS FLAG…     the trainer's flags; the first rank prints real images a second
"""

import sys
from pathlib import Path

from dinogen.train.measure import measure_stage, plan_stages
from dinogen.train.trainer import Trainer
from launch.train import build_parser, make_config


def main(steps: str, *flags: str) -> None:
    parser = build_parser()
    config = make_config(parser, parser.parse_args([*flags]))
    trainer = Trainer(config)
    measured = measure_stage(trainer, plan_stages(config)[-1], steps=int(steps), warm_up=2)
    if trainer.is_main:
        sys.stdout.write(f"{measured.images_per_second}\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main(*sys.argv[1:])
