"""Speech as a picture: log-mel frames of a recording, and a summary of a fixed width. NumPy alone, no torchaudio."""

from __future__ import annotations

import numpy as np

_FLOOR = 1e-10  # least power that the logarithm sees: digital silence becomes log(1e-10) = -23


def log_mel(
    samples: np.ndarray, rate: int = 16_000, mels: int = 40, window: float = 0.025, step: float = 0.010
) -> np.ndarray:
    """How loud each of `mels` bands of pitch is in each short stretch of a recording: (frames, mels) float32.

    samples: (T,) amplitudes, `rate` a second. A frame of `window` seconds begins every `step` seconds and lies wholly
    inside the recording; it is weighted by a Hann window, and its power spectrum is summed in triangles that are evenly
    spaced on the mel scale, m = 2595 log10(1 + f / 700) for f in hertz (O'Shaughnessy 1987; Davis and Mermelstein
    1980). Values are natural logarithms of power. Recordings that are shorter than one window are filled with silence.

    Raises ValueError for samples that are not one channel of finite numbers, times that are not positive, or more
    bands than the window can tell apart.
    """
    samples = np.asarray(samples, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(f"log_mel: samples must be (T,) finite numbers, T > 0; got shape {samples.shape}.")
    length, hop = round(window * rate), round(step * rate)  # in samples
    if length < 2 or hop < 1:
        raise ValueError(f"log_mel: window {window} s and step {step} s must be positive at {rate} samples a second.")
    samples = np.pad(samples, (0, max(0, length - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]  # (frames, length)
    size = 1 << (length - 1).bit_length()  # the next power of two
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    power = np.abs(np.fft.rfft(frames * hann, size)) ** 2  # (frames, size // 2 + 1)
    bands = power @ _triangles(size // 2 + 1, rate, mels)  # (frames, bins) @ (bins, mels) -> (frames, mels)
    return np.log(np.maximum(bands, _FLOOR)).astype(np.float32)


def _triangles(bins: int, rate: int, mels: int) -> np.ndarray:
    """(bins, mels): band m rises from corner m to corner m + 1 and falls to corner m + 2; corners in even mel steps."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)  # hertz
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]  # (mels,)
    hertz = np.linspace(0, rate / 2, bins)[:, None]  # (bins,1)
    triangles = np.clip(np.minimum((hertz - left) / (middle - left), (right - hertz) / (right - middle)), 0, None)
    if mels < 1 or not triangles.any(axis=0).all():
        raise ValueError(f"log_mel: {mels} bands need a longer window: the lowest would hold no frequency at all.")
    return triangles


def summary(frames: np.ndarray, segments: int = 8) -> np.ndarray:
    """A recording of any length in a fixed width: (frames, mels) -> (segments * mels,) float32.

    The frames are cut into `segments` stretches of equal time (neighbours share a frame where the cut falls inside
    one), each is averaged, and the mean of the whole recording is taken off, so that a loud recording equals a soft
    one. The order of sounds stays, at the fineness of a stretch; speed is lost.

    Raises ValueError where `frames` is not (frames, mels) of finite numbers or `segments` is below 1.
    """
    frames = np.asarray(frames, dtype=np.float64)
    if frames.ndim != 2 or 0 in frames.shape or not np.isfinite(frames).all():
        raise ValueError(f"summary: frames must be (frames, mels) finite numbers; got shape {frames.shape}.")
    if segments < 1:
        raise ValueError(f"summary: segments={segments} must be at least 1.")
    first = np.arange(segments) * len(frames) // segments  # where each stretch begins,
    last = -(-np.arange(1, segments + 1) * len(frames) // segments)  # and ends, rounded up: none is empty
    means = np.stack([frames[a:b].mean(axis=0) for a, b in zip(first, last)])  # (segments, mels)
    return (means - frames.mean()).ravel().astype(np.float32)
