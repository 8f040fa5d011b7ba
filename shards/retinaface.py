"""RetinaFace (arXiv 1905.00641) with a ResNet-50, as trained and packaged by retinaface-pytorch 0.0.6.

Its network, priors and decoding are the package's. Its `predict_jsons` is not used: it rounds landmarks to whole
pixels, enlarges small photos and pads every photo to a fixed square.
"""

import hashlib
import io
import sys
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from dinogen.data.transfer import default_cache
from dinogen.errors import DinogenError, UsageError
from shards.decode import Rejected
from shards.face import Face, one_thread, sort_faces
from shards.remote import fetch

URL = "https://github.com/ternaus/retinaface/releases/download/0.01/retinaface_resnet50_2020-07-20-f168fae3c.zip"
SHA256_PREFIX = "f168fae3c"  # published in the file's name; whether of the zip or of what it holds is not said
MAX_WEIGHT_BYTES = 1 << 30

STRIDES = (8, 16, 32)
ANCHOR_SIZES = ((16, 32), (64, 128), (256, 512))
VARIANCES = (0.1, 0.2)
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255
OVERLAP = 0.4  # of two boxes that overlap more, the surer one stays
LEAST_SCORE = 0.5


class RetinaFaceDetector:
    """Detects faces of about 16 pixels and more; slower and surer than MTCNN on crowds and turned heads."""

    name = "retinaface"
    max_pixels = 2_000_000  # a ResNet-50 keeps about 500 bytes a pixel

    def __init__(self, weights: Path):
        import torch
        from retinaface.network import RetinaFace

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls torchvision by an older name
            self.network = RetinaFace(
                name="Resnet50", pretrained=False, return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
                in_channels=256, out_channels=256,
            )  # fmt: skip
        try:
            self.network.load_state_dict(load_weights(weights))
        except RuntimeError as error:
            missing = str(error).splitlines()[-1].strip()
            raise DinogenError(f"{weights}: not RetinaFace ResNet-50 weights ({missing[:120]})") from error
        self.network.eval().requires_grad_(False)
        self.torch = torch

    def detect(self, images: list[np.ndarray], min_face: float) -> list[list[Face]]:
        with one_thread(), self.torch.no_grad():
            return [[face for face in self._detect_one(image) if face.side >= min_face] for image in images]

    def _detect_one(self, image: np.ndarray) -> list[Face]:
        from retinaface.box_utils import decode, decode_landm
        from torchvision.ops import nms

        height, width = (-(-length // STRIDES[-1]) * STRIDES[-1] for length in image.shape[:2])
        padded = np.zeros((height, width, 3), np.float32)  # after normalising, 0 is the mean colour
        padded[: image.shape[0], : image.shape[1]] = (image - MEAN) / STD
        located, classified, marked = self.network(self.torch.from_numpy(padded).permute(2, 0, 1)[None])
        scores = classified[0].softmax(dim=-1)[:, 1]
        sure = (scores > LEAST_SCORE).nonzero()[:, 0]
        anchors, scores = priors(height, width)[sure], scores[sure]
        boxes = decode(located[0, sure], anchors, VARIANCES) * self.torch.tensor([width, height] * 2)
        points = decode_landm(marked[0, sure], anchors, VARIANCES) * self.torch.tensor([width, height] * 5)
        kept = nms(boxes, scores, OVERLAP)
        # its coordinates are shares of the picture, counted from pixel edges
        found = zip(boxes[kept].double() - 0.5, points[kept].double() - 0.5, scores[kept].tolist(), strict=True)
        return sort_faces([Face(box.numpy(), marks.view(5, 2).numpy(), score) for box, marks, score in found])


@lru_cache(maxsize=8)
def priors(height: int, width: int):
    """The anchors of one input size: `[n, 4]`, centre and size as shares of the picture."""
    from retinaface.prior_box import priorbox

    return priorbox(ANCHOR_SIZES, STRIDES, clip=False, image_size=(height, width))


def load_weights(path: Path) -> dict:
    """A state dict from a `.pth` or from a zip around one. Only tensors are unpickled, never code.

    Raises:
        DinogenError: the file holds no state dict.
    """
    import torch

    try:
        payload = inner_file(path.read_bytes())
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler, the zip reader and the disk each have their own
        first = str(error).splitlines()[0] if str(error) else ""
        raise DinogenError(f"{path}: cannot be read as weights ({type(error).__name__}: {first[:120]})") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DinogenError(f"{path}: not RetinaFace weights: a plain state dict of tensors is wanted")
    return state


def inner_file(payload: bytes) -> bytes:
    """What a plain zip of one file holds; other files (torch's own zip format among them) as they are."""
    if not zipfile.is_zipfile(io.BytesIO(payload)):
        return payload
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        if len(files) != 1:
            return payload
        if files[0].file_size > MAX_WEIGHT_BYTES:
            raise ValueError("holds more than weights can be")
        return archive.read(files[0])


def cached_weights(cache: Path | None = None) -> Path:
    """Where downloaded weights lie."""
    return (cache or default_cache()) / "retinaface" / URL.rsplit("/", 1)[-1]


def download_weights(cache: Path | None = None, url: str = URL, sha256_prefix: str = SHA256_PREFIX) -> Path:
    """Fetch the published weights (about 100 MB) into the cache unless they are there, and check their sha256.

    Raises:
        DinogenError: unreachable, or not the file that was published.
    """
    path = cached_weights(cache)
    if path.exists():
        return path
    print(f"fetching RetinaFace's weights from {url}", file=sys.stderr)
    try:
        fetched = fetch(url, cache or default_cache(), max_bytes=MAX_WEIGHT_BYTES)
    except Rejected as rejected:
        raise DinogenError(
            f"{url}: {rejected.detail}; fetch it elsewhere and give --detector-weights PATH, or take --detector mtcnn"
        ) from rejected
    payload = fetched.read_bytes()
    digests = [hashlib.sha256(part).hexdigest() for part in (payload, checked_inner(payload))]
    if not any(digest.startswith(sha256_prefix) for digest in digests):
        fetched.unlink()
        raise DinogenError(f"{url}: sha256 {digests[0]} is not the published {sha256_prefix}…; nothing was kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    fetched.rename(path)
    return path


def checked_inner(payload: bytes) -> bytes:
    try:
        return inner_file(payload)
    except (ValueError, zipfile.BadZipFile):
        return b""


def choose_weights(name: str, given: Path | None) -> tuple[str, Path | None]:
    """Settle `--detector` and `--detector-weights`: a detector's name, and its weights if they are a file.

    `auto` takes RetinaFace where its weights are given or cached, and MTCNN otherwise.
    """
    if given is not None and not given.is_file():
        raise UsageError(f"{given}: no such file; --detector-weights takes RetinaFace's weights")
    if given is not None and name == "mtcnn":
        raise UsageError("--detector-weights goes with --detector retinaface or auto; mtcnn brings its own")
    if name == "auto":
        at_hand = given or (cached_weights() if cached_weights().exists() else None)
        name = "retinaface" if at_hand else "mtcnn"
        print(f"detector: {name} ({at_hand or 'no RetinaFace weights at hand'})", file=sys.stderr)
        return name, at_hand
    return name, (given or download_weights()) if name == "retinaface" else None
