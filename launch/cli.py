"""The console script `dinogen VERB …`; each verb is also a module, `python -m launch.VERB`."""

import importlib
import sys

import dinogen

VERBS = {
    "synth": "draw portraits of nobody, to try everything without a photo",
    "download": "fetch photos from lists of addresses or a Hugging Face data set",
    "crop": "find faces in photos and cut aligned crops",
    "pack": "look at crops with the teacher and pack both into shards",
    "train": "grow a generator on shards",
    "sample": "draw faces with a trained generator",
    "interpolate": "walk between faces: a strip, a GIF or a film",
    "evaluate": "judge a generator by what had no part in its training",
    "compare": "judge several generators on the same terms",
    "verify": "check shards byte by byte",
    "inspect": "say and show what is in shards",
    "remove": "take a person or a photo out of shards",
    "card": "write a data set card: sources, licences, consent, removal",
    "bench": "measure how fast this machine trains",
    "doctor": "is this machine fit to train, and what to fix",
    "demo": "photos to faces in a few minutes, on synthetic portraits or your photos",
}


def usage() -> str:
    lines = [f"dinogen {dinogen.__version__}: {dinogen.__doc__}", "", "usage: dinogen VERB [flags]", ""]
    lines += [f"  {verb:<12} {what}" for verb, what in VERBS.items()]
    return "\n".join(lines + ["", "Each verb explains itself: dinogen VERB --help"])


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    verb = argv[0] if argv else "--help"
    if verb in ("-h", "--help"):
        print(usage())
        return 0
    if verb == "--version":
        print(dinogen.__version__)
        return 0
    if verb not in VERBS:
        print(f"dinogen: error: no verb '{verb}'; known ones: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"launch.{verb}").main(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
