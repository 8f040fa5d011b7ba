"""A face detector as a judge: it is not used in training, and its weights lie inside a wheel."""

from typing import Any

import torch
import torch.nn.functional as F
from facenet_pytorch import MTCNN
from torch import Tensor

from dinogen.progress import progress_bar

SURE = 0.9  # probability from which the detector is sure of a face
VIEWING_SIZE = 160  # every image is brought to this side before the search, whatever its resolution
SMALLEST_FACE = 40  # pixels of VIEWING_SIZE
FEATURE_SIZE = 48  # side of what the last stage looks at
FEATURES = 256
BATCH_SIZE = 50

FACE_METHOD = {
    "detector": "MTCNN (facenet-pytorch 2.5.3), which is not used in training",
    "face_is_sure_from_probability": SURE,
    "face_search": f"images resized to {VIEWING_SIZE}×{VIEWING_SIZE}, bilinear, antialiased; "
    f"faces from {SMALLEST_FACE} px",
}


def resize_uint8(images: Tensor, size: int) -> Tensor:
    """uint8 `[n, 3, H, W]` to floats 0 to 255, `[n, 3, size, size]`, bilinear, antialiased when it shrinks.

    The values are rounded: what is judged can be stored as a picture.
    """
    if images.shape[-2:] == (size, size):
        return images.float()
    return F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True).round()


class Detector:
    """MTCNN (arXiv 1604.02878) as a yes-or-no judge and as a source of features, see `extractors.Extractor`.

    Args:
        device: where it computes; results come back on the CPU.
    """

    name = "detector"
    method = (
        f"MTCNN's last stage (ONet), {FEATURES} values before its outputs, images resized to "
        f"{FEATURE_SIZE}×{FEATURE_SIZE}, bilinear, antialiased; finer detail is not seen"
    )

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.mtcnn = MTCNN(min_face_size=SMALLEST_FACE, keep_all=True, device=self.device).eval()
        self.mtcnn.requires_grad_(False)

    def face_probabilities(self, images: Tensor, desc: str = "looking for faces") -> Tensor:
        """How sure the detector is of the clearest face in each image.

        Args:
            images: uint8 `[n, 3, R, R]`, any R.
            desc: names the progress line; none is shown where it is empty.

        Returns:
            `[n]` in [0, 1]; 0 where it finds nothing.
        """
        found = []
        with progress_bar(len(images), desc, disable=not desc) as bar:
            for batch in images.split(BATCH_SIZE):
                found += self._clearest(resize_uint8(batch, VIEWING_SIZE))
                bar.update(len(batch))
        return torch.tensor(found)

    def _clearest(self, enlarged: Tensor) -> list[float]:
        probabilities = self.mtcnn.detect(enlarged.permute(0, 2, 3, 1).to(self.device))[1]
        return [max((float(p) for p in faces if p is not None), default=0.0) for faces in probabilities]

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What the last stage makes of whole images.

        Args:
            images: uint8 `[n, 3, R, R]`, any R.

        Returns:
            float64 `[n, 256]`.
        """
        batches = [resize_uint8(batch, FEATURE_SIZE) for batch in images.split(BATCH_SIZE)]
        return torch.cat([self._penultimate((batch.to(self.device) - 127.5) / 128).cpu() for batch in batches]).double()

    def _penultimate(self, x: Tensor) -> Tensor:
        kept: list[Any] = []
        hook = self.mtcnn.onet.prelu5.register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            self.mtcnn.onet(x)
        finally:
            hook.remove()
        return kept[0]
