"""Uploads: good pictures of every kind come out small, upright and in colour; bad ones get a sentence."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from course_utils.uploads import MEGABYTES, MEGAPIXELS, SIDE, open_picture


def encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def halves(size=(60, 40)):
    """Left half red, right half blue."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2, 0] = pixels[:, size[0] // 2 :, 2] = 250
    return Image.fromarray(pixels)


def png_of(width, height):
    """The beginning of a PNG that says it is this large, and holds next to nothing."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_gives_the_same_picture(kind, tmp_path):
    path = tmp_path / "picture.anything"
    path.write_bytes(encoded(halves(), kind))
    for source in (path, str(path), path.read_bytes()):
        picture, remarks = open_picture(source)
        assert picture.mode == "RGB" and picture.size == (60, 40) and remarks == []
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(halves())).mean() < 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"hello, I am a text", "not a picture that can be read here"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not a picture"),
        (b"%PDF-1.7 and so on", "not a picture"),
        (encoded(halves(), "PNG")[:90], "damaged"),
        (encoded(halves((600, 400)), "JPEG")[:1500], "damaged"),
        (encoded(halves(), "ICO"), "not a picture"),
        (png_of(10_000, 5_000), f"50 megapixels; at most {MEGAPIXELS}"),
        (png_of(60_000, 60_000), "megapixels"),
        (png_of(2_000_000_000, 2_000_000_000), "megapixels"),
        (png_of(100_000, 2), "damaged"),  # promises more than it holds
        (bytes(MEGABYTES * 1_000_000 + 600_000), "31 megabytes"),
    ],
    ids=["empty", "text", "svg", "pdf", "cut png", "cut jpeg", "ico", "50 MP", "bomb", "huge bomb", "strip", "31 MB"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_files_get_a_sentence(content, message, tmp_path):
    path = tmp_path / "upload"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ValueError, match=message):
            open_picture(source)


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_warning_that_was_made_an_error_is_a_sentence_too():
    with pytest.raises(ValueError, match="megapixels"):
        open_picture(png_of(10_000, 10_000))


def test_fifty_megapixels_are_refused_before_they_are_decoded():
    content = encoded(Image.new("1", (10_000, 5_000)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="50 megapixels"):
        open_picture(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_large_and_long_pictures_come_out_small():
    assert open_picture(encoded(halves((5_000, 4_000)), "JPEG"))[0].size == (SIDE, round(SIDE * 4 / 5))
    assert open_picture(encoded(Image.new("L", (30_000, 3))))[0].size == (SIDE, 1)
    assert open_picture(encoded(Image.new("RGB", (1, 1), "red")))[0].getpixel((0, 0)) == (255, 0, 0)


def test_exif_turns_the_picture_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned clockwise
    picture, remarks = open_picture(encoded(halves(), "JPEG", exif=exif, quality=95))
    assert picture.size == (40, 60) and "upright" in remarks[0]
    red, _, blue = picture.getpixel((20, 5))
    assert red > 200 and blue < 60  # left became top


def test_cmyk_becomes_rgb():
    picture, remarks = open_picture(encoded(halves().convert("CMYK"), "JPEG", quality=95))
    assert picture.mode == "RGB" and "CMYK" in remarks[0]
    assert np.abs(np.asarray(picture).astype(int) - np.asarray(halves())).mean() < 15


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind):
    grey = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    picture, remarks = open_picture(encoded(Image.fromarray(grey), kind))
    assert picture.mode == "RGB" and "256" in remarks[0]
    assert np.array_equal(np.asarray(picture)[..., 0].ravel(), np.arange(256))


def test_floating_point_levels_are_scaled_and_holes_filled():
    grey = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    grey[0, 0] = np.nan
    pixels = np.asarray(open_picture(encoded(Image.fromarray(grey), "TIFF"))[0])
    assert pixels.max() == 255 and pixels.min() == 0


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_a_moving_picture_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue", "green")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    picture, remarks = open_picture(content)
    assert "first frame" in remarks[0]
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - (255, 0, 0)).max() < 12


def test_transparency_is_kept_and_invisible_colours_do_not_bleed():
    pixels = np.zeros((2_000, 2_000, 4), np.uint8)
    pixels[..., 1] = 255  # green wherever nobody sees it
    pixels[500:1_500, 500:1_500] = (255, 0, 0, 255)
    picture, _ = open_picture(encoded(Image.fromarray(pixels)))
    assert picture.mode == "RGBA" and picture.size == (SIDE, SIDE)
    small = np.asarray(picture)
    assert (small[small[..., 3] > 0][:, 1] < 10).all()
    palette = halves().convert("P")
    assert open_picture(encoded(palette, transparency=0))[0].mode == "RGBA"


@pytest.mark.parametrize(("kind", "remark"), [("TIFF", "It holds several: the first was taken."), ("GIF", "It moves")])
def test_pages_do_not_move(kind, remark):
    content = encoded(halves(), kind, save_all=True, append_images=[Image.new("RGB", (60, 40), "green")])
    picture, remarks = open_picture(content)
    assert remarks[0].startswith(remark) and np.asarray(picture)[20, 10, 0] > 200


def test_a_folder_a_device_and_a_file_without_rights_get_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "holiday").mkdir()
    with pytest.raises(ValueError, match="no file but a folder or a device. Choose a picture"):
        open_picture(tmp_path / "holiday")
    path = tmp_path / "closed.png"
    path.write_bytes(encoded(halves()))

    def closed(*_, **__):
        raise PermissionError("not for you")

    monkeypatch.setattr("course_utils.uploads.Image.open", closed)
    with pytest.raises(ValueError, match="This file may not be read. Give yourself the right"):
        open_picture(path)


def test_a_link_to_another_file_is_read_and_one_to_nowhere_is_said(tmp_path):
    (tmp_path / "picture.png").write_bytes(encoded(halves()))
    (tmp_path / "link.png").symlink_to(tmp_path / "picture.png")
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    assert open_picture(tmp_path / "link.png")[0].size == (60, 40)
    with pytest.raises(ValueError, match="There is no such file"):
        open_picture(tmp_path / "broken.png")
