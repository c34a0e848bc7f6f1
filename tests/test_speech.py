"""Log-mel frames against transformers' spectrogram and sounds of known pitch; summaries against plain loops."""

import numpy as np
import pytest
from transformers import audio_utils

from course_utils import speech, stamps

RATE = 16_000


def tone(hertz, seconds=0.5, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def theirs(samples, rate=RATE, mels=40, length=400, hop=160, size=512):
    filters = audio_utils.mel_filter_bank(size // 2 + 1, mels, 0.0, rate / 2, rate, norm=None, mel_scale="htk")
    window = audio_utils.window_function(length, "hann")
    shape = {"frame_length": length, "hop_length": hop, "fft_length": size, "center": False}
    values = {"power": 2.0, "mel_filters": filters, "log_mel": "log", "mel_floor": 1e-10}
    return audio_utils.spectrogram(samples, window, **shape, **values).T  # (mels, frames) -> (frames, mels)


@pytest.mark.parametrize("samples", [400, 401, 559, 560, 16_000])
def test_equal_to_transformers_on_noise(samples):
    noise = np.random.default_rng(samples).normal(size=samples)
    ours = speech.log_mel(noise)
    assert ours.shape == (1 + (samples - 400) // 160, 40) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs(noise), atol=1e-4)


def test_equal_to_transformers_on_a_recording_and_at_another_rate():
    row = stamps.load().query("speech_fr.notna()").iloc[3]
    samples, rate = stamps.speech(row)
    np.testing.assert_allclose(speech.log_mel(samples, rate), theirs(samples, rate), atol=1e-3)
    ours = speech.log_mel(samples, rate=8_000, mels=20, window=0.032, step=0.016)
    np.testing.assert_allclose(ours, theirs(samples, 8_000, 20, 256, 128, 256), atol=1e-3)


def test_a_tone_lights_its_own_band_and_ten_times_the_amplitude_adds_the_logarithm_of_a_hundred():
    for hertz in (300, 1_000, 3_000):
        frames = speech.log_mel(tone(hertz))
        corner = (
            2595 * np.log10(1 + hertz / 700) / (2595 * np.log10(1 + RATE / 2 / 700)) * 41
        )  # middle of band m: m + 1
        assert abs(frames.mean(axis=0).argmax() + 1 - corner) < 1
        np.testing.assert_allclose((speech.log_mel(10 * tone(hertz)) - frames).max(), np.log(100), atol=1e-3)


def test_silence_is_finite_and_a_short_sound_fills_one_frame():
    assert np.unique(speech.log_mel(np.zeros(1_000))).tolist() == [np.float32(np.log(1e-10))]
    click = np.zeros(10)
    click[5] = 1.0
    np.testing.assert_array_equal(speech.log_mel(click), speech.log_mel(np.pad(click, (0, 390))))


@pytest.mark.parametrize("length", [1, 3, 7, 8, 9, 50])
def test_a_summary_averages_equal_stretches(length):
    frames = np.random.default_rng(length).normal(size=(length, 5))
    for segments in (1, 4, 8):
        # Cut every frame into `segments` slivers: stretch s is slivers s * length up to (s + 1) * length.
        touched = [sorted({i // segments for i in range(s * length, (s + 1) * length)}) for s in range(segments)]
        wanted = [frames[rows].mean(axis=0) - frames.mean() for rows in touched]
        ours = speech.summary(frames, segments)
        assert ours.shape == (segments * 5,) and ours.dtype == np.float32
        np.testing.assert_allclose(ours.reshape(segments, 5), wanted, atol=1e-6)


def test_a_summary_forgets_loudness_and_keeps_order():
    low, high = tone(300), tone(3_000)
    there, back = (speech.summary(speech.log_mel(np.concatenate(pair))) for pair in ((low, high), (high, low)))
    louder = speech.summary(speech.log_mel(2 * np.concatenate((low, high))))
    noise = np.random.default_rng(0).normal(size=RATE)
    np.testing.assert_allclose(*(speech.summary(speech.log_mel(scale * noise)) for scale in (1.0, 0.1)), atol=1e-4)
    assert np.corrcoef(there, back)[0, 1] < 0.5 < np.corrcoef(there, louder)[0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: speech.log_mel(np.zeros((2, 9))), r"samples must be \(T,\) finite numbers, T > 0; got shape \(2, 9\)"),
        (lambda: speech.log_mel([]), "T > 0"),
        (lambda: speech.log_mel([0.0, np.nan]), "finite"),
        (lambda: speech.log_mel(np.zeros(900), step=0.0), "step 0.0 s must be positive"),
        (lambda: speech.log_mel(np.zeros(900), window=0.0), "window 0.0 s"),
        (lambda: speech.log_mel(np.zeros(900), mels=400), "400 bands need a longer window"),
        (lambda: speech.log_mel(np.zeros(900), mels=0), "0 bands"),
        (lambda: speech.summary(np.zeros(9)), r"frames must be \(frames, mels\) finite numbers; got shape \(9,\)"),
        (lambda: speech.summary(np.zeros((0, 40))), r"got shape \(0, 40\)"),
        (lambda: speech.summary(np.full((3, 4), np.inf)), "finite"),
        (lambda: speech.summary(np.zeros((3, 4)), 0), "segments=0 must be at least 1"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
