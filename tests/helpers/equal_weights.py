"""Started by torchrun: trains as launch.train does, then prints what this rank ended with, one line a rank."""

import hashlib
import sys

from dinogen.train.trainer import Trainer
from launch.train import build_parser, make_config


def main() -> None:
    parser = build_parser()
    trainer = Trainer(make_config(parser, parser.parse_args(sys.argv[1:])))
    trainer.train()
    for name, network in (("G", trainer.network), ("G_ema", trainer.G_ema)):
        weights = b"".join(tensor.detach().numpy().tobytes() for tensor in network.state_dict().values())
        digest = hashlib.sha256(weights).hexdigest()
        sys.stdout.write(f"{name} rank {trainer.rank} of {trainer.world_size}: {digest}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
