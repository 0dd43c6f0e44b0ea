"""PNG files, read back by Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from amity.cli.png import encode_png, write_png


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 3, 3), (37, 101, 3), (400, 7, 3)])
def test_pillow_reads_the_same_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image = Image.open(io.BytesIO(encode_png(pixels)))
    image.verify()
    image = Image.open(io.BytesIO(encode_png(pixels)))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_pixels_may_be_a_view():
    pixels = np.random.default_rng(1).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(encode_png(pixels[::-2, 1:5])))
    np.testing.assert_array_equal(np.asarray(image), pixels[::-2, 1:5])


def test_write_png(tmp_path):
    write_png(tmp_path / "red.png", np.full((4, 5, 3), (255, 0, 0), np.uint8))
    with Image.open(tmp_path / "red.png") as image:
        assert image.size == (5, 4)
        assert image.getpixel((4, 3)) == (255, 0, 0)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3), np.float32)],
)
def test_other_pixels_are_refused(pixels):
    with pytest.raises(ValueError, match=r"encode_png: got .*; expected uint8 of shape"):
        encode_png(pixels)
