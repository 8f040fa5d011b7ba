"""Started by tests: one step's gradient, and in which types its tensors are.

python precise.py DATA OUTPUT RESULT.safetensors [FLAG…]     the trainer's flags, after those of `oracle.COMMON`
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from dinogen.train.trainer import Trainer
from helpers.oracle import COMMON
from launch.train import build_parser, make_config


def main(data: str, output: str, result: str, *flags: str) -> None:
    parser = build_parser()
    config = make_config(parser, parser.parse_args([f"--data={data}", f"--output={output}", *COMMON, *flags]))
    trainer = Trainer(config)
    found, types = {}, {"teacher": next(trainer.teacher.parameters()).dtype}

    def keep(verdict):
        found["gradient"] = torch.cat([p.grad.flatten() for _, p in sorted(trainer.network.named_parameters())])
        types["gradient"] = found["gradient"].dtype

    def watch(name, owner, method):
        original = getattr(owner, method)

        def watched(*args, **options):
            value = original(*args, **options)
            tensor = value["cls"] if isinstance(value, dict) else value
            types[name] = tensor.dtype
            return value

        setattr(owner, method, watched)

    trainer.learn = keep
    watch("images", trainer.comparer, "draw")
    watch("generated", trainer.comparer, "see")
    watch("real", trainer.comparer, "real_pyramid")
    convolution = next(m for m in trainer.network.modules() if isinstance(m, torch.nn.Conv2d))
    linear = next(m for m in trainer.teacher.modules() if isinstance(m, torch.nn.Linear))
    for name, module in (("convolution", convolution), ("product", linear)):
        module.register_forward_hook(lambda module, given, value, name=name: types.update({name: value.dtype}))
    trainer.train_step(*next(trainer.one_stage()))
    save_file(found, result, metadata={name: str(kind).removeprefix("torch.") for name, kind in types.items()})


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main(*sys.argv[1:])
