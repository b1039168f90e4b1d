"""Image files that lie, explode or are odd: refused before they cost anything, or read as they look."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from descent.data.pictures import FORMATS, look, open_image, to_array
from descent.errors import UserError

RNG = np.random.default_rng(1)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *before: bytes, after: bytes = b"", colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = b"".join(before) + chunk(b"IDAT", zlib.compress(rows, 9)) + after
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def zeros(count: int) -> bytes:
    """So many zeros packed by zlib, made of one block many times over: a thousandth of their size."""
    block = 1_000_000
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = squeeze.compress(bytes(block)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    rest = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = rest.compress(bytes(count % block)) + rest.flush()
    return b"\x78\xda" + packed * (count // block) + tail + struct.pack(">I", count % 65521 << 16 | 1)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def noise(height: int = 12, width: int = 12, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def huge(kind: str, width: int = 60_000, height: int = 60_000) -> bytes:
    """A small file of each format whose header states that size."""
    small = saved(Image.new("RGB", (16, 16)), kind) if kind != "WEBP" else b""
    if kind == "PNG":
        return png(width, height, bytes(1000))
    if kind == "JPEG":
        place = small.index(b"\xff\xc0") + 5
        return small[:place] + struct.pack(">HH", height, width) + small[place + 4 :]
    if kind == "BMP":
        return small[:18] + struct.pack("<ii", width, height) + small[26:]
    if kind == "GIF":
        place = small.index(b"\x2c") + 5
        sides = struct.pack("<HH", width, height)
        return small[:6] + sides + small[10:place] + sides + small[place + 4 :]
    if kind == "PPM":
        return f"P6 {width} {height} 255\n".encode() + bytes(100)
    # WebP states at most 16,383 in a simple file, 2**24 in the canvas of an extended one
    canvas = bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    inner = saved(Image.new("RGB", (16, 16)), "WEBP", lossless=True)[12:]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", len(canvas)) + canvas + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_header_of_60_000_a_side_is_refused_in_every_format(tmp_path: Path, kind: str):
    path = tmp_path / "x.png"
    path.write_bytes(huge(kind))
    for read in (look, open_image):
        tracemalloc.start()
        with pytest.raises(UserError, match=r"too large|broken image") as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()
        if kind != "WEBP":  # its library refuses a canvas that no frame fills
            assert "too large" in caught.value.what
    path.write_bytes(huge(kind, 16, 16))
    assert look(path)[:2] == (16, 16)  # the same bytes with the true size are an image


def test_a_small_file_of_40_000_a_side_never_reaches_memory(tmp_path: Path):
    """A whole and honest PNG of zeros, opened in a process that watches its memory."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zeros(40_000 * 40_001)) + chunk(b"IEND", b"")
    whole = b"\x89PNG\r\n\x1a\n" + body
    (tmp_path / "bomb.png").write_bytes(whole)
    assert len(whole) < 2_000_000
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from descent.data.pictures import open_image\n"
        "from descent.errors import UserError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: open_image(Path(sys.argv[1])); print('opened')\n"
        "except UserError as error: print(error.what)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000)"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "bomb.png")], cwd=root, capture_output=True, text=True
    )
    assert ended.stdout.split("\n")[0].endswith("bomb.png is too large"), ended.stderr
    assert ended.stdout.endswith("True\n")


@pytest.mark.parametrize("name", ["zTXt", "iTXt", "iCCP"])
@pytest.mark.parametrize("late", [False, True])
def test_notes_that_explode_are_never_unpacked(tmp_path: Path, name: str, late: bool):
    data = {
        "zTXt": b"Comment\0\0" + zeros(300_000_000),
        "iTXt": b"Comment\0\1\0\0\0" + zeros(300_000_000),
        "iCCP": b"profile\0\0" + zeros(300_000_000),
    }[name]
    bomb = chunk(name.encode(), data)
    rows = b"".join(b"\0" + bytes(4) for _ in range(4))
    whole = png(4, 4, rows, *([] if late else [bomb]), after=bomb if late else b"")
    (tmp_path / "x.png").write_bytes(whole)
    tracemalloc.start()
    with suppress(UserError):
        open_image(tmp_path / "x.png")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_an_animation_of_ten_thousand_frames_costs_its_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    two = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames = saved(two[0], "GIF", save_all=True, append_images=two[1:], duration=20)
    start = frames.rindex(b"\x21\xf9\x04")
    whole = frames[:start] + frames[start:-1] * 10_000 + b";"
    (tmp_path / "x.gif").write_bytes(whole)
    from PIL.GifImagePlugin import GifImageFile

    sought: list[int] = []
    seek = GifImageFile._seek

    def counted(self: GifImageFile, frame: int, update_image: bool = True) -> None:
        sought.append(frame)
        seek(self, frame, update_image)

    monkeypatch.setattr(GifImageFile, "_seek", counted)
    assert open_image(tmp_path / "x.gif").size == (8, 8)
    assert len(sought) < 5


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_is_taken_whatever_the_format(tmp_path: Path, kind: str):
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "blue", "lime")]
    more = {"lossless": True} if kind == "WEBP" else {}
    (tmp_path / "x").write_bytes(saved(frames[0], kind, save_all=True, append_images=frames[1:], **more))
    pixels = to_array(open_image(tmp_path / "x"), 3, (5, 6), "crop")
    assert_array_equal(pixels, np.array([255, 0, 0])[:, None, None].repeat(5, 1).repeat(6, 2))


def test_every_turn_of_a_camera(tmp_path: Path):
    """The orientations of EXIF: 1 is as it stands, and the others undo what they say was done."""
    corners = np.zeros((16, 32), dtype=np.uint8)
    corners[:8, :16] = 255  # bright at the top left
    done = {
        1: corners,
        2: corners[:, ::-1],
        3: corners[::-1, ::-1],
        4: corners[::-1],
        5: corners.T,
        6: np.rot90(corners),
        7: corners[::-1, ::-1].T,
        8: np.rot90(corners, -1),
    }
    for number, pixels in done.items():
        exif = Image.Exif()
        exif[0x0112] = number
        image = Image.fromarray(np.ascontiguousarray(pixels))
        for kind in ("JPEG", "PNG", "WEBP"):
            more = {"lossless": True} if kind == "WEBP" else {}
            (tmp_path / "x").write_bytes(saved(image, kind, exif=exif, **more))
            opened = np.asarray(open_image(tmp_path / "x").convert("L")).astype(int)
            assert_allclose(opened, corners, atol=25, err_msg=f"{kind} {number}")
            if kind == "JPEG":
                assert look(tmp_path / "x")[:2] == (16, 32)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_broken_note_on_the_camera_does_not_spoil_the_image(tmp_path: Path):
    for note in (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01"):
        (tmp_path / "x.jpg").write_bytes(saved(noise(), "JPEG", exif=note))
        assert open_image(tmp_path / "x.jpg").size == (12, 12)
    exif = Image.Exif()
    exif[0x0112] = 99
    (tmp_path / "x.jpg").write_bytes(saved(noise(), "JPEG", exif=exif))
    assert open_image(tmp_path / "x.jpg").size == (12, 12)


def test_transparency_is_white_in_every_mode(tmp_path: Path):
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette(bytes(range(12)))
    clear = {
        "RGBA": (Image.new("RGBA", (4, 4), (9, 9, 9, 0)), {}),
        "LA": (Image.new("LA", (4, 4), (9, 0)), {}),
        "a colour": (Image.new("RGB", (4, 4), (9, 9, 9)), {"transparency": (9, 9, 9)}),
        "a grey": (Image.new("L", (4, 4), 9), {"transparency": 9}),
        "an entry of a palette": (palette, {"transparency": 3}),
        "a share for each entry": (palette, {"transparency": b"\xff\xff\xff\x00"}),
        "one bit": (Image.new("1", (4, 4), 0), {"transparency": 0}),
    }
    for name, (image, options) in clear.items():
        (tmp_path / "x.png").write_bytes(saved(image, "PNG", **options))
        for channels in (1, 3):
            pixels = to_array(open_image(tmp_path / "x.png"), channels, (3, 5), "pad")
            assert pixels.shape == (channels, 3, 5)
            assert pixels.min() == 255, name
    half = saved(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG")
    (tmp_path / "x.png").write_bytes(half)
    assert_allclose(to_array(open_image(tmp_path / "x.png"), 1, (4, 4), "crop"), 127, atol=1)


def test_sixteen_bits_are_scaled_and_dark_ones_stay_dark(tmp_path: Path):
    for top in (200, 60_000):
        values = np.linspace(0, top, 64).astype(np.uint16).reshape(8, 8)
        expected = np.rint(values / 257).astype(np.uint8)[None]
        Image.fromarray(values).save(tmp_path / "x.png")
        (tmp_path / "x.pgm").write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
        for name in ("x.png", "x.pgm"):
            assert_allclose(to_array(open_image(tmp_path / name), 1, (8, 8), "crop"), expected, atol=1)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_a_line_of_pixels_comes_to_any_shape(tmp_path: Path, fit):
    for height, width in ((1, 1), (1, 3000), (3000, 1), (2, 1)):
        noise(height, width).save(tmp_path / "x.png")
        for size in ((32, 32), (1, 1), (300, 2)):
            assert to_array(open_image(tmp_path / "x.png"), 3, size, fit).shape == (3, *size)


def test_padding_has_the_corners_colour_and_the_image_in_its_middle():
    image = Image.new("RGB", (40, 20), (10, 20, 30))
    image.paste((200, 100, 50), (10, 5, 30, 15))
    pixels = to_array(image, 3, (20, 20), "pad")
    assert_array_equal(pixels[:, 0, 0], [10, 20, 30])
    assert_array_equal(pixels[:, -1, -1], [10, 20, 30])
    assert_array_equal(pixels[:, 10, 10], [200, 100, 50])
    assert_array_equal(pixels[:, :5], np.array([10, 20, 30])[:, None, None].repeat(5, 1).repeat(20, 2))


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path: Path):
    down, across = np.mgrid[0:800, 0:1200]
    wave = np.stack([np.sin(across / 70) * np.cos(down / 50), np.sin((across + down) / 90), down / 800], -1)
    Image.fromarray((127 + 100 * wave).astype(np.uint8)).save(tmp_path / "x.jpg", quality=92)
    small, large = open_image(tmp_path / "x.jpg", (64, 64)), open_image(tmp_path / "x.jpg")
    assert (small.size, large.size) == ((300, 200), (1200, 800))
    for fit in ("crop", "pad", "stretch"):
        pixels = [to_array(image, 3, (64, 64), fit).astype(int) for image in (small, large)]
        assert_allclose(pixels[0], pixels[1], atol=6)
    assert open_image(tmp_path / "x.jpg", (500, 500)).size == (1200, 800)


def test_bytes_changed_anywhere_never_crash_a_reader(tmp_path: Path):
    kinds = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
    samples = [saved(noise(9, 11), kind) for kind in kinds] + [saved(noise(9, 11, "P"), "PNG")]
    samples.append(saved(noise(), "GIF", save_all=True, append_images=[noise(), noise()]))
    path, refused = tmp_path / "x", 0
    for _ in range(400):
        data = bytearray(samples[RNG.integers(len(samples))])
        for _ in range(RNG.integers(1, 5)):
            data[RNG.integers(min(len(data), 90) if RNG.integers(2) else len(data))] = RNG.integers(256)
        path.write_bytes(data[: RNG.integers(1, len(data) + 1)] if RNG.integers(4) == 0 else data)
        try:
            look(path)
            to_array(open_image(path, (4, 4)), 3, (4, 4), "pad")
        except UserError:
            refused += 1
    assert 150 < refused < 400
