"""What does Grad-CAM of one picture with five sentences cost? Run: python tests/benchmarks/bench_gradcam.py (a minute)

`gradcam_vs_captum`: CPU-seconds of captum's LayerGradCam in a loop over the sentences, as it is used, against
`explain.grad_cams`, which runs the picture once, keeps no graph below the layer and goes back once for all sentences.
`gradcam_vs_captum_batched`: captum given five copies of the picture at once.
`gradcam_vs_pytorch_grad_cam`: pytorch-grad-cam at whichever of its documented ways is fastest here, a loop or a batch.
`gradcam_vs_pytorch_grad_cam_frozen`: the same, with the weights below the layer frozen by hand, which the library
leaves to its user and which spares it most of the way back. Here the fastest of all ways counts.
`gradcam_forwards`: ours in units of one forward pass of the same model without gradients.

Same model (EfficientNet-Lite0 with a projection, evaluation mode, channels_last), same layer (the last, 7x7), same
sentences' embeddings, one thread. All maps are compared first. pytorch-grad-cam (`grad-cam`) and its need,
opencv-python-headless, are not among the course's packages; its two entries are left as they were where it is absent.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from _results import entry, seconds, write
from captum.attr import LayerGradCam
from torch import nn

from course_utils import explain, recipes

try:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.image import scale_cam_image
except ImportError:
    GradCAM = None

SENTENCES, REPETITIONS = 5, 7
PACKAGES = ("torch", "timm")


class Pictures(nn.Module):
    """A model's picture side as a module, which is what pytorch-grad-cam takes."""

    def __init__(self, model):
        super().__init__()
        self.tower, self.head = model.image_tower, model.image_head

    def forward(self, images):
        return F.normalize(self.head(self.tower(images)), dim=-1)


def with_captum(model, layer, image, z_txt):
    """One call a sentence -> (K,h,w)."""
    maps = [LayerGradCam(lambda x, z=z: model(x) @ z, layer).attribute(image, relu_attributions=True) for z in z_txt]
    return torch.cat(maps)[:, 0].detach()


def with_captum_batched(model, layer, image, z_txt):
    """Copies of the picture, one a sentence -> (K,h,w)."""
    copies = image.repeat(len(z_txt), 1, 1, 1).contiguous(memory_format=torch.channels_last)
    explainer = LayerGradCam(lambda x: (model(x) * z_txt).sum(dim=1), layer)
    return explainer.attribute(copies, relu_attributions=True)[:, 0].detach()


def with_library(explainer, image, z_txt):
    """pytorch-grad-cam in a loop -> (K,224,224), each map scaled to [0, 1]."""
    return torch.cat([torch.from_numpy(explainer(image, [lambda out, z=z: out @ z])) for z in z_txt])


def with_library_batched(explainer, image, z_txt):
    """pytorch-grad-cam with copies of the picture -> (K,224,224)."""
    copies = image.repeat(len(z_txt), 1, 1, 1).contiguous(memory_format=torch.channels_last)
    return torch.from_numpy(explainer(copies, [lambda out, z=z: out @ z for z in z_txt]))


def forward(model, image):
    """One forward pass without gradients."""
    with torch.no_grad():
        return model(image)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Pictures(recipes.build(recipes.RECIPES["lite0+minilm"]).model).eval().to(memory_format=torch.channels_last)
    layer = model.tower.tower.body.bn2
    image = torch.rand(1, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    z_txt = F.normalize(torch.randn(SENTENCES, 256), dim=-1)
    ways = {
        "ours": lambda: explain.grad_cams(model, layer, image, z_txt)[0],
        "forward": lambda: forward(model, image),
        "captum": lambda: with_captum(model, layer, image, z_txt),
        "captum batched": lambda: with_captum_batched(model, layer, image, z_txt),
    }
    ours = ways["ours"]()
    scale = ours.amax()
    for name in ("captum", "captum batched"):
        difference = (ways[name]() - ours).abs().max() / scale
        print(f"{name}: maps differ by at most {difference:.1e} of the largest value")
        assert difference < 1e-4
    if GradCAM is not None:
        frozen = Pictures(recipes.build(recipes.RECIPES["lite0+minilm"]).model)
        frozen.load_state_dict(model.state_dict())
        frozen = frozen.eval().to(memory_format=torch.channels_last).requires_grad_(False)
        frozen.tower.tower.body.bn2.requires_grad_(True)  # or the layer's output has no gradient to hook
        for name, one in (("library", model), ("library frozen", frozen)):
            explainer = GradCAM(model=one, target_layers=[one.tower.tower.body.bn2])
            ways[name] = lambda explainer=explainer: with_library(explainer, image, z_txt)
            ways[name + " batched"] = lambda explainer=explainer: with_library_batched(explainer, image, z_txt)
        scaled = scale_cam_image(scale_cam_image(ours.numpy(), (224, 224)))  # it scales before and after enlarging
        scaled = torch.from_numpy(scaled)
        for name in ways:
            if name.startswith("library"):
                difference = (ways[name]() - scaled).abs().max()
                print(f"{name}: maps differ by at most {difference:.1e} after its scaling")
                assert difference < 1e-3
    times = {name: [] for name in ways}
    for _ in range(REPETITIONS):
        for name, run in ways.items():  # interleaved: a busy minute slows all of them
            times[name].append(seconds(run)[0])
    middle = {name: sorted(some)[REPETITIONS // 2] for name, some in times.items()}
    print(", ".join(f"{name} {1000 * value:.0f} ms" for name, value in middle.items()))

    def ratios(peer):
        return [theirs / mine for theirs, mine in zip(times[peer], times["ours"])]

    unit = f"times the CPU-seconds for 1 picture and {SENTENCES} sentences"
    results = [
        entry("gradcam_vs_captum", ratios("captum"), unit, "captum LayerGradCam in a loop", (*PACKAGES, "captum")),
        entry("gradcam_vs_captum_batched", ratios("captum batched"), unit, "captum LayerGradCam, copies of the picture",
              (*PACKAGES, "captum")),
        entry("gradcam_forwards", [mine / one for mine, one in zip(times["ours"], times["forward"])],
              f"forward passes for 1 picture and {SENTENCES} sentences", packages=PACKAGES),
    ]  # fmt: skip
    if GradCAM is not None:
        packages = (*PACKAGES, "grad-cam")
        plain = min(("library", "library batched"), key=middle.get)
        best = min((name for name in middle if name.startswith("library")), key=middle.get)
        peer = f"pytorch-grad-cam, {'copies of the picture' if 'batched' in plain else 'in a loop'}"
        results.append(entry("gradcam_vs_pytorch_grad_cam", ratios(plain), unit, peer, packages))
        peer = f"pytorch-grad-cam, its fastest way with frozen weights ({best})"
        results.append(entry("gradcam_vs_pytorch_grad_cam_frozen", ratios(best), unit, peer, packages))
    write(results)


if __name__ == "__main__":
    main()
