"""Keys that had another name in an earlier version: what became of them, and files that still use them."""

from collections.abc import Iterable, Mapping

import yaml

from dinogen.errors import UsageError


class Renamed:
    """Old names of keys or of groups of keys, each with its new name.

    Args:
        names: an empty new name, or one that begins with "gone", says that the key is gone: "gone: always 3 now".
    """

    def __init__(self, names: Mapping[str, str]):
        self.names = names

    def new_name(self, key: str) -> str | None:
        """What a key is called now, by its own old name or by that of a group around it; None if nothing became of it.

        The answer may also be that the key is gone, see the class.
        """
        parts = key.replace("-", "_").split(".")
        for length in range(len(parts), 0, -1):
            new = self.names.get(".".join(parts[:length]))
            if new is not None:
                return new if is_gone(new) else ".".join([new, *parts[length:]])
        return None

    def in_file(self, text: str, keys: Iterable[str], name: str) -> str:
        """A YAML file's text with the new names of the keys that were renamed.

        Args:
            text: with underscores for hyphens in names.
            keys: of the text, none of which is gone.
            name: of the file, for messages.

        Raises:
            UsageError: it has both names of a key.
        """
        moves = {key.replace("-", "_"): new for key in keys if (new := self.new_name(key)) is not None}
        if not moves:
            return text
        root = yaml.compose(text, yaml.SafeLoader)
        assert isinstance(root, yaml.MappingNode), "there are keys in it"
        for old, new in moves.items():
            value = taken_out(root, old)
            if value is not None and not put_in(root, new, value):
                raise UsageError(f"{name}: {old} is now {new}, and both are there; take {old} out")
        return yaml.serialize(root, Dumper=yaml.SafeDumper, allow_unicode=True)


def is_gone(new_name: str) -> bool:
    return not new_name or new_name.startswith("gone")


def taken_out(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    """Take a key with dots out of a file's nodes, and groups that are empty then; its value, or None without it."""
    for entry in mapping.value:
        name, value = entry[0].value, entry[1]
        if name == key:
            mapping.value.remove(entry)
            return value
        if key.startswith(f"{name}.") and isinstance(value, yaml.MappingNode):
            found = taken_out(value, key[len(name) + 1 :])
            if not value.value:
                mapping.value.remove(entry)
            return found
    return None


def put_in(mapping: yaml.MappingNode, key: str, value: yaml.Node) -> bool:
    """Put a value into a file's nodes under a key with dots; False, and nothing done, where there is one already."""
    name, _, rest = key.partition(".")
    there = {entry[0].value: entry[1] for entry in mapping.value}
    if not rest:
        if name in there:
            return False
        mapping.value.append((yaml.ScalarNode("tag:yaml.org,2002:str", name), value))
        return True
    group = there.get(name)
    if group is None:
        group = yaml.MappingNode("tag:yaml.org,2002:map", [])
        mapping.value.append((yaml.ScalarNode("tag:yaml.org,2002:str", name), group))
    return isinstance(group, yaml.MappingNode) and put_in(group, rest, value)
