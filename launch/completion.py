"""`dinogen completion`: a script that makes a shell complete verbs, flags, their words and presets."""

import importlib
import sys

from jsonargparse import Namespace

from launch.cli import VERBS
from launch.command import CommandParser, run_command
from launch.flags import PRESETS
from launch.wording import choices_of, name_of

DESCRIPTION = """\
Print a script that completes dinogen's verbs, flags, their words and presets when you press Tab.

Example: source <(dinogen completion bash)"""

SCRIPT = """\
_dinogen() {{
    local words="" current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD - 1]}}"
    case "${{COMP_WORDS[1]}} $before" in
    *" --config" | *" --preset") words="{presets} $(compgen -f -- "$current")" ;;
{words}
    *)
        [[ "$current" != -* ]] || case "${{COMP_WORDS[1]}}" in
{flags}
        esac
        ;;
    esac
    ((COMP_CWORD > 1)) || words="{verbs}"
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _dinogen dinogen
"""


def build_parser() -> CommandParser:
    parser = CommandParser("completion", DESCRIPTION)
    parser.add_argument("shell", choices=["bash", "zsh"], help="the shell that the script is for")
    return parser


def work(args: Namespace) -> None:
    words, flags = [], []
    for verb in VERBS:
        actions = importlib.import_module(f"launch.{verb}").build_parser().flags().values()
        named = {name_of(action): choices_of(action) for action in actions if action.option_strings}
        flags.append(f'        {verb}) words="{" ".join(named)}" ;;')
        words += [f'    "{verb} {flag}") words="{" ".join(taken)}" ;;' for flag, taken in named.items() if taken]
    presets = " ".join(sorted(preset.stem for preset in PRESETS.glob("*.yaml")))
    verbs = " ".join(["help", *VERBS])
    if args.shell == "zsh":
        print("autoload -Uz compinit bashcompinit && compinit && bashcompinit")
    print(SCRIPT.format(presets=presets, words="\n".join(words), flags="\n".join(flags), verbs=verbs), end="")


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
