"""Pages of the site that are made from the code when it is built: all commands, all keys of a config, all presets.

The pages in docs/reference/ have a line such as <!-- made from the code: commands -->, and `fill` puts the text there.
"""

import importlib
import inspect
import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `mkdocs build` looks for modules beside itself only
    sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from dinogen.config import RunConfig  # noqa: E402
from launch.cli import EXIT_CODES, VERBS  # noqa: E402
from launch.flags import PRESETS, CommandParser, keys_of_mapping  # noqa: E402
from launch.wording import PlainHelp, as_typed, what_to_give  # noqa: E402

MARK = re.compile(r"^<!-- made from the code: (\w+) -->$", re.M)
COMMON = "common flags"
KEYS_ELSEWHERE = "train"  # its flags are the keys of a config, which have a page
COMPARED = {  # keys in the table of presets, and how their column is called
    "generator.img_resolution": "pixels",
    "schedule.start_resolution": "from",
    "schedule.total_kimg": "kimg",
    "batches.generated": "generated a step",
    "batches.real": "real a step",
    "generator.channel_max": "channels at most",
}


def fill(markdown: str) -> str:
    """A page with what is made from the code in the place of its marks.

    Raises:
        KeyError: a mark that names nothing.
    """
    made = {"commands": commands, "keys": keys, "presets": presets}
    return MARK.sub(lambda mark: "\n".join(made[mark[1]]()), markdown)


def commands() -> Iterator[str]:
    """Every verb with its flags, as `--help` has them; flags of all verbs once, at the end."""
    parsers = {verb: importlib.import_module(f"launch.{verb}").build_parser() for verb in VERBS}
    for verb, parser in parsers.items():
        yield from ("", f"## {verb}", "")
        yield from about(parser)
        for title, actions in parser.sections():
            if not actions or title == COMMON:
                continue
            if verb == KEYS_ELSEWHERE and title != "flags":
                continue
            yield from flag_table(parser, actions)
        if verb == KEYS_ELSEWHERE:
            yield from ("", "Every [key of the config](config.md) is a flag too, such as `--schedule.total_kimg 40`.")
    common = next(actions for title, actions in parsers["synth"].sections() if title == COMMON)
    yield from ("", "## Flags of every command", "", *flag_table(parsers["synth"], common))
    yield from ("", f"Exit codes: {EXIT_CODES}.")


def about(parser: CommandParser) -> Iterator[str]:
    """Usage, description and example of a command."""
    texts = re.split(r"\n\n|\s*(?=Example: )", f"{parser.description}\n\n{parser.epilog or ''}")
    examples = [text.removeprefix("Example: ") for text in texts if text.startswith("Example: ")]
    described = [" ".join(text.split()) for text in texts if text.strip() and not text.startswith("Example: ")]
    needed = [action for action in parser.flags().values() if action.required]
    usage = " ".join([parser.prog, *(typed(parser, action) for action in needed), "[flags]"])
    for text in described:
        yield from (as_text(text), "")
    yield from ("```text", usage, "```", "")
    if examples:
        yield from ("For example:", "", "```bash", *examples, "```", "")


def flag_table(parser: CommandParser, actions: Sequence[Action]) -> Iterator[str]:
    """A row for each flag."""
    yield from ("", "| flag | what it does | default |", "| --- | --- | --- |")
    for action in actions:
        default = "needed" if action.required else shown(parser.get_defaults().get(action.dest), action)
        yield f"| {as_code(typed(parser, action))} | {help_of(action)} | {default} |"


def typed(parser: CommandParser, action: Action) -> str:
    """A flag and what follows it, as in `--help`."""
    return PlainHelp(parser.prog, {}, ())._format_action_invocation(action)


def keys() -> Iterator[str]:
    """Every key of a config: a table for the keys outside of groups, then one for each group."""
    flags = config_parser().flags()
    hints = get_type_hints(RunConfig)
    groups = {field.name: field for field in fields(RunConfig) if group_of(hints[field.name])}
    alone = [key for key in flags if key in hints and key not in groups]
    yield from ("", "## Outside of groups", "", *key_table(flags, alone))
    for name, field in groups.items():
        yield from ("", f"## {name}", "")
        for paragraph in docstring_of(group_of(hints[name])):
            yield from (as_text(paragraph), "")
        if field.default is None and field.default_factory is MISSING:
            yield from (f"Off unless a config has this group. `--{name} {{}}` turns it on with its defaults.", "")
        yield from key_table(flags, [key for key in flags if key.startswith(f"{name}.")])


def config_parser() -> CommandParser:
    return importlib.import_module(f"launch.{KEYS_ELSEWHERE}").build_parser()


def group_of(hint: Any) -> Any:
    """The dataclass that a key stands for, be it absent or not; None for a plain value."""
    return next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)


def docstring_of(kind: type) -> list[str]:
    """The paragraphs of a docstring above its "Args:"."""
    text = (inspect.getdoc(kind) or "").partition("\nArgs:")[0]
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def key_table(flags: Mapping[str, Action], names: Sequence[str]) -> Iterator[str]:
    """A row for each key."""
    defaults = config_parser().get_defaults()
    yield from ("| key | value | default | what it is |", "| --- | --- | --- | --- |")
    for name in names:
        action = flags[name]
        default = defaults.get(name)
        default = "needed" if action.required else shown(action.default if default is None else default, action)
        yield f"| {as_code(name)} | {as_text(what_to_give(action))} | {default} | {help_of(action)} |"


def presets() -> Iterator[str]:
    """Every preset: a table to compare them, and what its file says at its top."""
    files = sorted(PRESETS.glob("*.yaml"))
    yield from ("", f"| preset | {' | '.join(COMPARED.values())} |", "| --- " * (1 + len(COMPARED)) + "|")
    for path in files:
        given = values_of(yaml.safe_load(path.read_text()))
        given = {key: config_parser().get_defaults().get(key) for key in COMPARED} | given
        yield f"| `{path.stem}` | {' | '.join(as_typed(given[key]) for key in COMPARED)} |"
    for path in files:
        yield from ("", f"## {path.stem}", "", *comment_of(path))
    yield from ("", "## Files for accelerate", "", "| `configs/accelerate/` | for |", "| --- | --- |")
    for path in sorted((PRESETS / "accelerate").glob("*.yaml")):
        yield f"| `{path.name}` | {as_text(' '.join(comment_lines(path)))} |"


def values_of(content: dict[str, Any]) -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    found = {}
    for key in keys_of_mapping(content):
        value: Any = content
        for name in key.split("."):
            value = value[name]
        found[key] = value
    return found


def comment_lines(path: Path) -> list[str]:
    """The comment at the top of a file, without its hashes."""
    lines = path.read_text().splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.removeprefix("#").removeprefix(" ") for line in lines[:end]]


def comment_of(path: Path) -> Iterator[str]:
    """The comment at the top of a file: indented lines are commands."""
    inside = False
    for line in comment_lines(path):
        if line.startswith("  ") != inside:
            inside = not inside
            yield from ("", "```bash") if inside else ("```", "")
        yield line.removeprefix("  ") if inside else as_text(line)
    if inside:
        yield "```"


def help_of(action: Action) -> str:
    """What a flag or a key is for."""
    return as_text((action.help or "").rstrip("."))


def shown(value: object, action: Action) -> str:
    """A default, as one would type it; nothing where there is none."""
    if value is None or value == SUPPRESS or value is False and action.nargs == 0 or value in ("", [], {}):
        return ""
    return as_code(as_typed(value, action.nargs))


def as_code(text: str) -> str:
    """As code in a cell of a table, whatever is in it."""
    for letter, entity in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("_", "&#95;"), ("*", "&#42;")):
        text = text.replace(letter, entity)
    return f'<code class="whole">{text}</code>'


def as_text(text: str) -> str:
    """As prose, where nothing but `code` is Markdown."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*_|<\[\]])", r"\\\1", part) for part in parts)
