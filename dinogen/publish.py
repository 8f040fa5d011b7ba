"""A snapshot on a hub of models."""

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from dinogen.errors import DinogenError, UsageError, first_line
from dinogen.model_card import CARD_NAME, PICTURE_NAME, Publication, published_card
from dinogen.opening import CONFIG_FILE, WEIGHTS_FILE, load_generator, locate
from dinogen.reader import NOTES_FILE, WHITENING_FILE

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def push(model: str, publication: Publication, private: bool = False) -> str:
    """Put a snapshot and its model card into a repository of the hub, which is made if it is not there.

    The hub's server and the user's token are those of huggingface_hub: HF_ENDPOINT, HF_TOKEN or `hf auth login`.

    Args:
        model: a run's folder (its newest snapshot is taken) or a snapshot's.
        publication: where it goes, and what the card says of that.
        private: whether only its owner sees a repository that is made.

    Returns:
        The repository's address.

    Raises:
        UsageError: no hub id, no snapshot here, or one without a model card.
        DinogenError: the files are broken, or the hub refuses.
    """
    if not HUB_ID.fullmatch(publication.repo):
        raise UsageError(f"--repo {publication.repo}: give a name such as owner/faces")
    if not Path(model).expanduser().is_dir():
        raise UsageError(f"{model}: no such folder; --model takes a run or a snapshot")
    network = load_generator(model)  # broken files stay here
    words = (NOTES_FILE, WHITENING_FILE) if network.takes_words else ()
    files = locate(model, CONFIG_FILE, WEIGHTS_FILE, *words)
    folder = files[0].parent
    card = published_card(folder, publication)
    with TemporaryDirectory(prefix="dinogen-push-") as temporary:
        for file in (*files, *filter(Path.is_file, [folder / PICTURE_NAME])):
            shutil.copyfile(file, Path(temporary, file.name))
        Path(temporary, CARD_NAME).write_text(card, encoding="utf-8")
        api = HfApi(library_name="dinogen")
        try:
            address = api.create_repo(publication.repo, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=publication.repo, folder_path=temporary, commit_message=f"Generator {network.fingerprint}"
            )
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise DinogenError(
                f"{publication.repo}: the hub did not take it ({first_line(error)}); check the network, the name and "
                "your token (hf auth login, or HF_TOKEN)"
            ) from error
    return str(address)
