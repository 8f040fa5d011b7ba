"""Opening pretrained models, teachers and text encoders alike, by hub id or folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Self, TypeVar

from huggingface_hub.utils import logging as hub_logging
from transformers import PretrainedConfig
from transformers.utils import logging as transformers_logging

from dinogen.advice import no_folder
from dinogen.errors import DinogenError, first_line


class Loadable(Protocol):
    """A family of saved models."""

    @classmethod
    def load(cls, source: str) -> Self:
        """Open one from a folder or a hub id; raises OSError, ValueError or ImportError where that fails."""
        ...


Model = TypeVar("Model", bound=Loadable)


def load_pretrained(kind: str, name: str, families: Mapping[str, type[Model]], remedy: str) -> Model:
    """Open a saved model by the `model_type` in its config.json.

    Args:
        kind: what it shall be, for messages: teacher, text encoder.
        name: a hub id or a folder.
        families: by model type.
        remedy: what to do where it is not to be found, for the message.

    Raises:
        DinogenError: it is not there, cannot be read, or is of no known family.
    """
    folder = Path(name).expanduser()
    is_folder = name.startswith((".", "/", "~")) or folder.is_dir()
    if folder.is_file():
        raise DinogenError(no_folder(name, remedy))
    if is_folder and not (folder / "config.json").is_file():
        raise DinogenError(f"{name}: no {kind} here (no config.json); {remedy}")
    source = str(folder) if is_folder else name
    hub_logging.set_verbosity_error()  # its retries would bury our one line
    transformers_logging.disable_progress_bar()
    try:
        family = str(PretrainedConfig.get_config_dict(source)[0].get("model_type"))
        if family in families:
            return families[family].load(source)
    except (OSError, ValueError, ImportError) as error:
        raise DinogenError(f"{kind} '{name}' could not be loaded ({first_line(error)}); {remedy}") from error
    raise DinogenError(f"{kind} '{name}' is a {family}; take a model of one of these types: {', '.join(families)}")
