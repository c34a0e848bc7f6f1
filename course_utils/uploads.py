"""Pictures from strangers: whatever file is handed over becomes one small upright picture, or one clear sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # nothing else is tried: fewer decoders, fewer surprises
MEGAPIXELS = 25  # as many as a good camera makes; decoded they take up to 100 MB
MEGABYTES = 30
SIDE = 1_024  # longer side of what is handed on; no tower here looks at more than 224


def open_picture(source: str | Path | bytes) -> tuple[Image.Image, list[str]]:
    """A file or its bytes -> (picture in mode RGB or RGBA, remarks on what was done to it).

    The longer side is at most SIDE pixels. It is turned as its camera says (EXIF), CMYK and 16-bit grey become RGB, and
    of a moving picture the first frame is taken. The size is read before anything is decoded, so a small file that
    would unfold to gigabytes costs nothing. Raises ValueError with a sentence for the reader where this fails.
    """
    if not isinstance(source, (str, Path, bytes)):
        raise ValueError(f"Give a picture as a file's path or its bytes, not as {type(source).__name__}.")
    try:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    except (OSError, ValueError):  # ValueError: a name that no file can have
        raise ValueError("There is no such file. Was it moved or deleted? Choose it again.") from None
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise ValueError("This is no file but a folder or a device. Choose a picture.")
    if size == 0:
        raise ValueError("This file is empty: it has 0 bytes. Was it copied completely?")
    if size > MEGABYTES * 1_000_000:
        raise ValueError(f"This file has {size / 1e6:.0f} megabytes; at most {MEGABYTES} are read. Save it smaller.")
    known = ", ".join(FORMATS[:-1]) + f" or {FORMATS[-1]}"
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            return _small(image)
    except _TooLarge as error:
        raise ValueError(str(error)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(_too_large("far more than 100")) from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"This file is not a picture that can be read here. It should be {known}.") from None
    except PermissionError:
        raise ValueError("This file may not be read. Give yourself the right to, or choose another.") from None
    except Exception as error:  # a damaged file makes decoders fail in every way there is, with errors of every kind
        raise ValueError(f"This picture is damaged and cannot be read ({type(error).__name__}).") from error


class _TooLarge(Exception):
    pass


def _too_large(megapixels: str) -> str:
    return f"This picture has {megapixels} megapixels; at most {MEGAPIXELS} are read. Make it smaller."


def _small(image: Image.Image) -> tuple[Image.Image, list[str]]:
    width, height = image.size
    if width * height > MEGAPIXELS * 1_000_000:
        raise _TooLarge(_too_large(f"{width * height / 1e6:.0f}"))
    remarks = []
    if getattr(image, "is_animated", False):
        moves = image.format in ("GIF", "PNG", "WEBP")  # pages of a TIFF, or the two of a phone's JPEG, do not move
        remarks.append("It moves: its first frame was taken." if moves else "It holds several: the first was taken.")
        image.seek(0)
    image.draft("RGB", (SIDE, SIDE))  # a JPEG is decoded at a half, a quarter or an eighth where that is enough
    image.load()
    upright = ImageOps.exif_transpose(image)
    if image.getexif().get(0x0112, 1) != 1:
        remarks.append("It was turned upright, as its camera noted.")
    if upright.mode == "CMYK":
        remarks.append("Its printing colours (CMYK) were changed to red, green and blue.")
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        remarks.append("Its grey levels were brought to 256.")
        upright = Image.fromarray(_eight_bit(np.asarray(upright)))
    clear = upright.has_transparency_data
    upright = upright.convert("RGBA" if clear else "RGB")
    if max(upright.size) > SIDE:
        scale = SIDE / max(upright.size)
        shape = tuple(max(1, round(length * scale)) for length in upright.size)
        mode = "RGBa" if clear else "RGB"  # premultiplied: the colour of invisible pixels must not bleed into the edge
        upright = upright.convert(mode).resize(shape, Image.Resampling.BICUBIC, reducing_gap=2.0).convert(upright.mode)
    return upright, remarks


def _eight_bit(grey: np.ndarray) -> np.ndarray:
    """Grey levels of any kind (H,W) -> uint8: 16 bits divided by 257, others from the smallest to the largest."""
    grey = np.nan_to_num(grey.astype(np.float64))
    low, high = (0.0, 65_535.0) if grey.min() >= 0 and 255 < grey.max() <= 65_535 else (grey.min(), grey.max())
    return np.round((grey - low) / (high - low or 1.0) * 255).astype(np.uint8)
