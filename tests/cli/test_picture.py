"""The picture of a training: what it must show, looked for in its pixels."""

import numpy as np
import pytest

from amity.cli.font import GLYPHS, text_mask
from amity.cli.picture import BLUE, GREEN, RED, WHITE, Box, Canvas, Samples, draw_training, ticks


def count(pixels, color):
    return int((pixels == np.array(color, np.uint8)).all(-1).sum())


def samples(n, wrong, side=8):
    images = np.random.default_rng(0).integers(0, 256, (n, side, side), dtype=np.uint8)
    labels = np.arange(n) % 10
    return Samples(images, labels, np.where(np.arange(n) < wrong, (labels + 1) % 10, labels))


def picture(n=100, wrong=3, side=8, losses=None):
    losses = np.linspace(2.3, 0.1, 200) if losses is None else losses
    return draw_training("digits: 97%", losses, [0.9, 0.97], samples(n, wrong, side), "0123456789")


def test_every_glyph_is_seven_rows_of_five_and_its_own():
    for letter, art in GLYPHS.items():
        assert [len(row) for row in art.split()] == [5] * 7, letter
    assert len(set(GLYPHS.values())) == len(GLYPHS)


def test_text_is_as_wide_as_its_letters():
    assert text_mask("amity 0.1", scale=3).shape == (21, 3 * (9 * 6 - 1))
    np.testing.assert_array_equal(text_mask("abc"), text_mask("ABC"))
    np.testing.assert_array_equal(text_mask("~"), text_mask("?"))


@pytest.mark.parametrize("high", [1e-4, 0.03, 0.999, 1.0, 2.3, 7.0, 12345.0])
def test_ticks_are_round_and_few(high):
    marks = ticks(high)
    assert marks[0] == 0 and marks[-1] <= high and 2 <= len(marks) <= 7
    steps = np.diff(marks)
    np.testing.assert_allclose(steps, steps[0])
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6


def test_curve_passes_through_its_heights():
    canvas = Canvas(101, 50)
    canvas.curve(Box(0, 0, 101, 50), np.linspace(0, 1, 50), 3.0, (0, 0, 0))
    ink = 255.0 - canvas.pixels[:, :, 0]
    centre = (ink * np.arange(101)[:, None]).sum(0) / ink.sum(0)
    np.testing.assert_allclose(centre[2:-2], np.linspace(100, 0, 50)[2:-2], atol=0.6)


def test_right_is_green_and_wrong_is_red():
    assert count(picture(wrong=0), RED) == 0
    assert count(picture(wrong=0), GREEN) > 0
    assert count(picture(wrong=8), RED) > count(picture(wrong=2), RED) > 0


def test_mistakes_take_a_row_of_their_own():
    assert picture(wrong=1).shape[0] > picture(wrong=0).shape[0]


@pytest.mark.parametrize("side", [8, 28])
def test_images_appear_enlarged(side):
    shown = samples(100, 0, side).images[0]
    scale = 84 // side
    tile = shown.repeat(scale, 0).repeat(scale, 1)
    pixels = picture(wrong=0, side=side)[:, :, 0]
    windows = np.lib.stride_tricks.sliding_window_view(pixels[:, :160], tile.shape)
    assert (windows == tile).all((-1, -2)).any()


@pytest.mark.parametrize("n", [1, 9, 40, 41])
def test_any_number_of_samples(n):
    assert picture(n=n, wrong=0).shape[1:] == (1080, 3)


@pytest.mark.parametrize("losses", [[2.0], [0.0, 0.0], [1.0, float("nan"), 2.0], [float("inf")]])
def test_odd_losses_still_make_a_picture(losses):
    pixels = picture(losses=losses)
    assert pixels.dtype == np.uint8 and count(pixels, WHITE) > 0


def test_the_loss_is_drawn():
    assert count(picture(), BLUE) > 1000
