"""Labelled images from IDX files and .npz archives: what is read, and what is refused."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from ssm_manual.tasks import _idx
from ssm_manual.tasks.mnist import labelled_images

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([7, 0], dtype=np.uint8)

#: Two images of 3 x 4 pixels, byte by byte as the format says.
IMAGE_BYTES = b"\0\0\x08\x03" + b"\0\0\0\x02\0\0\0\x03\0\0\0\x04" + bytes(range(24))
LABEL_BYTES = b"\0\0\x08\x01" + b"\0\0\0\x02" + b"\x07\0"


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def npy(a, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(a), **options)
    return file.getvalue()


def archive(folder, compression=zipfile.ZIP_STORED, **members):
    path = folder / "images.npz"
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content if isinstance(content, bytes) else npy(content))
    return path


def assert_read(images, labels):
    assert np.array_equal(images, IMAGES)
    assert labels.dtype == np.int64
    assert labels.tolist() == [7, 0]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_pair_of_idx_files(tmp_path, pack, swapped):
    paths = [
        written(tmp_path, "images", pack(IMAGE_BYTES)),
        str(written(tmp_path, "labels", pack(LABEL_BYTES))),
    ]
    assert_read(*labelled_images(paths[::-1] if swapped else tuple(paths)))


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(8, "u1"), (9, "i1"), (0xB, ">i2"), (0xC, ">i4"), (0xD, ">f4"), (0xE, ">f8")],
)
def test_every_type_of_number(tmp_path, code, dtype):
    content = struct.pack(">BBBBI", 0, 0, code, 1, 3) + np.array([1, 100, 5], dtype).tobytes()
    found = _idx.read_idx(written(tmp_path, "x", content))
    assert found.tolist() == [1, 100, 5]
    assert found.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize("names", [("x", "y"), ("x_train", "y_train")])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive(tmp_path, names, save):
    path = tmp_path / "any.name.npz"
    save(path, **dict(zip(names, (IMAGES, LABELS))), x_test=IMAGES[:1], other=np.zeros(3))
    assert_read(*labelled_images(path))
    assert_read(*labelled_images([str(path)]))


def test_floating_point_in_rows_of_squares(tmp_path):
    x = np.linspace(0, 1, 18).reshape(2, 9)
    images, labels = labelled_images(archive(tmp_path, x=x.astype(">f8"), y=np.array([1, 2])))
    assert images.dtype == np.float64
    assert np.array_equal(images, x.reshape(2, 3, 3))
    assert labels.tolist() == [1, 2]


BAD_IDX = {
    "empty": (b"", "begins with b''"),
    "another magic": (b"\x89PNG" + IMAGE_BYTES, "begins with"),
    "an unknown type": (b"\0\0\x0a\x03" + IMAGE_BYTES[4:], "0x0a stands for no type"),
    "no axes": (b"\0\0\x08\0", "0 axes"),
    "many axes": (b"\0\0\x08\xff" + IMAGE_BYTES[4:], "255 axes"),
    "cut in the header": (IMAGE_BYTES[:10], "ends within its header"),
    "cut by a byte": (IMAGE_BYTES[:-1], "promises 24 bytes"),
    "trailing byte": (IMAGE_BYTES + b"\0", "goes on after the 24 bytes"),
    "absurd sizes": (b"\0\0\x08\x03" + b"\xff" * 12 + bytes(50), "promises 79228162458924105385"),
    "no image": (b"\0\0\x08\x03" + bytes(12), "holds no number"),
    "no image of absurd size": (b"\0\0\x08\x03" + bytes(4) + b"\xff" * 8, "holds no number"),
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("case", BAD_IDX)
def test_a_malformed_idx_file_is_named(tmp_path, case, pack):
    content, message = BAD_IDX[case]
    bad = written(tmp_path, "bad-images", pack(content))
    with pytest.raises(ValueError, match="bad-images: .*" + message):
        labelled_images([bad, written(tmp_path, "labels", LABEL_BYTES)])


def test_nothing_is_read_on_the_word_of_a_header(tmp_path, monkeypatch):
    """8 GB promised by a few bytes: refused before a block is read, compressed or not."""
    content = b"\0\0\x0e\x01" + struct.pack(">I", 10**9) + bytes(100)
    monkeypatch.setattr(
        _idx, "bytearray", lambda: pytest.fail("memory was asked for"), raising=False
    )
    for pack in (bytes, gzip.compress):
        with pytest.raises(ValueError, match=r"truncated: its header promises 8000000000 bytes"):
            _idx.read_idx(written(tmp_path, "x", pack(content)))


@pytest.mark.parametrize(
    "damage",
    [lambda z: z[:-9], lambda z: z[:14] + b"\xff\xff" + z[16:], lambda z: z[:-6] + b"123456"],
)
def test_a_damaged_gzip_file(tmp_path, damage):
    packed = gzip.compress(IMAGE_BYTES)
    with pytest.raises(ValueError, match="bad: is no complete gzip file"):
        _idx.read_idx(written(tmp_path, "bad", damage(packed)))


def test_what_does_not_belong_together(tmp_path):
    images = written(tmp_path, "images", IMAGE_BYTES)
    labels = written(tmp_path, "labels", b"\0\0\x08\x01\0\0\0\x03\x01\x02\x03")
    with pytest.raises(ValueError, match=r"labels: has 3 labels; .*images has 2 images"):
        labelled_images([images, labels])
    with pytest.raises(ValueError, match=r"has shape \(2, 3, 4\); labels must be \(items,\)"):
        labelled_images([images, images])
    with pytest.raises(ValueError, match=r"has shape \(3,\); images must be"):
        labelled_images([labels, labels])
    with pytest.raises(ValueError, match=r"images: is no \.npz archive; a single file"):
        labelled_images(images)
    with pytest.raises(ValueError, match="is an archive; give it alone"):
        labelled_images([archive(tmp_path, x=IMAGES, y=LABELS), labels])


@pytest.mark.parametrize("data", [None, 3, [], ["a", "b", "c"], ["a", 1], {"x": "y"}])
def test_what_is_no_path(data):
    with pytest.raises(ValueError, match=r"^data is .*; it must be an \.npz archive, or two IDX"):
        labelled_images(data)


def test_a_missing_file():
    with pytest.raises(FileNotFoundError, match="nowhere"):
        labelled_images("nowhere.npz")


PICKLED = npy(np.array([{}, {}], dtype=object), allow_pickle=True)

BAD_ARRAYS = {
    "pickles": ({"x": PICKLED, "y": LABELS}, ", x: holds pickled objects, which are not loaded"),
    "pickled labels": ({"x": IMAGES, "y": PICKLED}, ", y: holds pickled objects"),
    "text": ({"x": np.array(["a", "b"]), "y": LABELS}, ", x: holds dtype <U1"),
    "complex": ({"x": IMAGES * 1j, "y": LABELS}, ", x: holds dtype complex128"),
    "no array": ({"x": b"nothing", "y": LABELS}, ", x: is no readable array"),
    "a later format": (
        {"x": npy(IMAGES, version=(3, 0)), "y": LABELS},
        ", x: is no readable array",
    ),
    "cut": ({"x": npy(IMAGES)[:-1], "y": LABELS}, ", x: is truncated"),
    "trailing": ({"x": npy(IMAGES) + b"\0", "y": LABELS}, ", x: goes on after its 24 bytes"),
    "a shape that is none": (
        {"x": npy(IMAGES).replace(b"(2, 3, 4), ", b"(9**9, 9), "), "y": LABELS},
        ", x: is no readable array",
    ),
    "a shape of truths": (
        {"x": npy(IMAGES).replace(b"(2, 3, 4), ", b"(True,3,4),"), "y": LABELS},
        ", x: is no readable array",
    ),
    "less than nothing": (
        {"x": npy(IMAGES).replace(b"(2, 3, 4), ", b"(-2,-3,4), "), "y": LABELS},
        ", x: is no readable array",
    ),
    "no image": ({"x": IMAGES[:0], "y": LABELS[:0]}, r", x: has shape \(0, 3, 4\); it holds no"),
    "no image of absurd size": (
        {
            "x": npy(IMAGES).replace(b"(2, 3, 4), }" + b" " * 20, b"(0, 1%s), }" % (b"0" * 24)),
            "y": LABELS,
        },
        ", x: has shape .*; it holds no number",
    ),
    "large": (
        {"x": npy(IMAGES).replace(b"(2, 3, 4), ", b"(99999999,)"), "y": LABELS},
        ", x: is truncated: its header promises 99999999 bytes",
    ),
    "missing": ({"x": IMAGES, "labels": LABELS}, ": holds 'labels', 'x'; it must hold x and y, or"),
    "nothing": ({}, ": holds nothing"),
    "NaN": ({"x": np.full((2, 3, 4), np.nan), "y": LABELS}, ", x: holds NaN or infinity"),
    "not square": ({"x": np.zeros((2, 8)), "y": LABELS}, r", x: has shape \(2, 8\)"),
    "colours": ({"x": np.zeros((2, 3, 3, 3)), "y": LABELS}, ", x: has shape"),
    "one-hot": ({"x": IMAGES, "y": np.eye(2)}, r", y: has shape \(2, 2\)"),
    "fractions": ({"x": IMAGES, "y": np.array([0.5, 1])}, ", y: has dtype float64"),
    "negative": ({"x": IMAGES, "y": np.array([-1, 1])}, ", y: holds labels from -1 to 1"),
    "pixels": ({"x": IMAGES, "y": np.array([5, 1000])}, ", y: holds labels from 5 to 1000"),
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_a_malformed_archive_is_named(tmp_path, case, compression):
    members, message = BAD_ARRAYS[case]
    path = archive(tmp_path, compression, **members)
    with pytest.raises(ValueError, match="images.npz" + message):
        labelled_images(path)


def test_a_directory_that_promises_more_than_the_file(tmp_path):
    """Header and directory agree on 99 MB; the file has some hundred bytes."""
    x = npy(IMAGES).replace(b"(2, 3, 4), ", b"(99999999,)")
    path = archive(tmp_path, x=x, y=LABELS)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"x.npy"))
    content[entry + 20 : entry + 28] = struct.pack("<II", 10**8, 10**8)
    with pytest.raises(ValueError, match=", x: is truncated: its header promises 99999999 bytes"):
        labelled_images(written(tmp_path, "images.npz", bytes(content)))


def test_another_compression_and_a_damaged_archive(tmp_path):
    path = archive(tmp_path, zipfile.ZIP_BZIP2, x=IMAGES, y=LABELS)
    with pytest.raises(ValueError, match="compressed in a way that NumPy does not use"):
        labelled_images(path)
    content = archive(tmp_path, x=IMAGES, y=LABELS).read_bytes()
    flipped = content.replace(bytes(range(24)), bytes(24))  # the checksum tells
    for bad in (content[:-30], flipped, b"PK"):
        with pytest.raises(ValueError, match=r"images\.npz.* is no readable"):
            labelled_images(written(tmp_path, "images.npz", bad))
