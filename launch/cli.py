"""The console script `dinogen VERB …`; each verb is also a module, `python -m launch.VERB`."""

import difflib
import importlib
import sys

import dinogen
from launch.command import flush, write_any_letter

VERBS = {
    "synth": "draw portraits of nobody, to try everything without a photo",
    "download": "fetch photos from lists of addresses or a Hugging Face data set",
    "crop": "find faces in photos and cut aligned crops",
    "pack": "look at crops with the teacher and pack both into shards",
    "train": "grow a generator on shards",
    "sample": "draw faces with a trained generator",
    "interpolate": "walk between faces: a strip, a GIF or a film",
    "mix": "coarse styles of some faces with fine styles of others, as a table",
    "project": "find the face of a generator that is nearest to a photo",
    "play": "play with a generator on a page in the browser",
    "export": "write a generator for other programs: ONNX, torch, a smaller snapshot",
    "push": "put a generator and its model card on the Hugging Face Hub",
    "evaluate": "judge a generator with networks not used in its training",
    "compare": "judge several generators on the same terms",
    "verify": "check shards byte by byte",
    "inspect": "say and show what is in shards",
    "remove": "take a person or a photo out of shards",
    "card": "write a data set card: sources, licences, consent, removal",
    "bench": "measure how fast this machine trains",
    "doctor": "is this machine fit to train, and what to fix",
    "completion": "print a script for bash or zsh: Tab completes verbs, flags and presets",
    "demo": "photos to faces in a few minutes, on synthetic portraits or your photos",
}
EXIT_CODES = "0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 stopped by SIGTERM"


def usage() -> str:
    lines = [f"dinogen {dinogen.__version__}: {dinogen.__doc__}", "", "usage: dinogen VERB [flags]", ""]
    lines += [f"  {verb:<12} {what}" for verb, what in VERBS.items()]
    lines += ["", "Each verb explains itself: dinogen help VERB", f"Exit codes: {EXIT_CODES}"]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    write_any_letter()
    verb, *rest = (sys.argv[1:] if argv is None else argv) or ["help"]
    if verb in ("-h", "--help", "help"):
        verb, *rest = [*rest[:1], "--help"] if rest else [""]
    if verb in VERBS:
        return importlib.import_module(f"launch.{verb}").main(rest)
    if verb in ("", "--version"):
        flush(sys.stdout, f"{dinogen.__version__ if verb else usage()}\n")
        return 0
    near = difflib.get_close_matches(verb, [*VERBS, "help"], 1)
    hint = f"did you mean '{near[0]}'?" if near else f"known ones: {', '.join(VERBS)}"
    print(f"dinogen: error: no verb '{verb}'; {hint}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
