"""Draw faces with an exported generator. It needs onnxruntime, numpy and pillow, neither torch nor dinogen.

python draw_with_onnx.py faces.onnx          the samples that faces.npz holds the inputs of
python draw_with_onnx.py faces.onnx 7        others: the number is a seed
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

model = Path(sys.argv[1])
session = onnxruntime.InferenceSession(model)
inputs = dict(np.load(model.with_suffix(".npz")))  # z, truncation_psi, and for models that take words text, guidance
if len(sys.argv) > 2:
    inputs["z"] = np.random.default_rng(int(sys.argv[2])).standard_normal(inputs["z"].shape, dtype=np.float32)
for number, pixels in enumerate(np.asarray(session.run(None, inputs)[0])):
    Image.fromarray(pixels).save(f"face{number}.png")
print(session.get_modelmeta().custom_metadata_map)
