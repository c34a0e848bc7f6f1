"""Training views: the pixels that plain slicing gives, scaled as torchvision scales, every place equally likely."""

import numpy as np
import pytest
import torch

from course_utils.feed import MEAN, STD, Crops


@pytest.fixture()
def squares():
    return np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)


def plain(squares, rows, size, rng):
    """The same views, slowly and in a new array."""
    places = rng.integers(0, squares.shape[1] - size + 1, (len(rows), 2))
    flips = rng.random(len(rows)) < 0.5
    views = [squares[row][top : top + size, left : left + size] for row, (top, left) in zip(rows, places)]
    return np.stack([view[:, ::-1] if flip else view for view, flip in zip(views, flips)])


@pytest.mark.parametrize("size", [1, 24, 32])
def test_bytes_are_plain_slices(squares, size):
    crops, rows = Crops(squares, 8, size), np.array([3, 3, 19, 0, 7])
    got = crops.bytes(rows, np.random.default_rng(5))
    assert got.shape == (5, 3, size, size) and got.dtype == torch.uint8
    assert np.array_equal(got.permute(0, 2, 3, 1).numpy(), plain(squares, rows, size, np.random.default_rng(5)))


def test_floats_are_scaled_as_torchvision_scales():
    from torchvision.transforms import Normalize

    squares = np.random.default_rng(1).integers(0, 256, (9, 40, 40, 3), dtype=np.uint8)
    rows = np.arange(9)
    got = Crops(squares, 9, 24).floats(rows, np.random.default_rng(2))
    views = torch.from_numpy(plain(squares, rows, 24, np.random.default_rng(2)).copy()).permute(0, 3, 1, 2)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(got, Normalize(MEAN, STD)(views / 255), atol=1e-5)


def test_a_memory_map_will_do_and_is_not_written_to(squares, tmp_path):
    np.save(tmp_path / "pixels.npy", squares)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")[4:]
    got = Crops(mapped, 3, 16).bytes(np.array([0, 5]), np.random.default_rng(0))
    expected = Crops(squares[4:], 3, 16).bytes(np.array([0, 5]), np.random.default_rng(0))
    assert torch.equal(got, expected)


def test_every_place_and_flip_occurs_about_equally_often():
    marked = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(3, axis=-1)
    got = Crops(marked, 4_000, 2).bytes(np.zeros(4_000, int), np.random.default_rng(0))[:, 0]  # (B,2,2)
    _, counts = np.unique(got.reshape(4_000, -1).numpy(), axis=0, return_counts=True)
    assert len(counts) == 8 and 420 < counts.min() <= counts.max() < 580  # four places, two flips


def test_the_next_batch_overwrites_this_one_as_it_says(squares):
    crops, rng = Crops(squares, 4, 16), np.random.default_rng(0)
    first = crops.floats(np.arange(4), rng)
    kept = first.clone()
    second = crops.floats(np.arange(4, 8), rng)
    assert torch.equal(first, second) and not torch.equal(first, kept)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((5, 32, 30, 3), np.uint8, r"\(N,R,R,3\)"),
        ((5, 32, 32), np.uint8, r"\(N,R,R,3\)"),
        ((5, 32, 32, 3), np.float32, "must be uint8"),
        ((5, 20, 20, 3), np.uint8, "of side 20 cannot give 8 views of side 24"),
    ],
)
def test_squares_of_another_kind_are_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        Crops(np.zeros(shape, dtype), 8, 24)


def test_too_many_rows_are_refused(squares):
    with pytest.raises(ValueError, match="9 rows, but built for at most 8"):
        Crops(squares, 8, 24).bytes(np.arange(9), np.random.default_rng(0))


def test_squares_whose_colours_lie_apart_are_refused(squares):
    with pytest.raises(ValueError, match="do not lie together; pass np.ascontiguousarray"):
        Crops(squares[..., ::-1], 8, 24)
    Crops(squares[:, ::2, ::2], 8, 8).bytes(np.arange(3), np.random.default_rng(0))
