"""Images as sequences: digits of scikit-learn, and of a file."""

import dataclasses
import sys

import numpy as np
import pytest

from ssm_manual import plots
from ssm_manual.tasks import _images, training_run
from ssm_manual.tasks.digits import SequentialDigits, classical, handwritten_digits
from ssm_manual.tasks.mnist import SequentialMNIST, nearest_neighbours

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def task():
    return SequentialDigits()


def rows(batches):
    """Every item of a part as bytes, so that it can be an element of a set."""
    return [item.tobytes() for item in batches.arrays.u]


# ------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("seed", [0, 1000])
def test_parts_are_disjoint_and_of_the_sizes_that_are_told(task, seed):
    parts = task.parts(seed)
    test = parts.test.open()
    assert [part.items for part in (parts.train, parts.validation, test)] == [1197, 300, 300]
    everything = rows(parts.train) + rows(parts.validation) + rows(test)
    assert len(set(everything)) == len({image.tobytes() for image in task.images}) == 1797


def test_the_test_part_is_the_same_for_every_seed_and_the_others_are_not(task):
    found = [_images.split(1797, seed, validation=300, test=300) for seed in (0, 1, 0)]
    assert np.array_equal(found[0][2], found[1][2])
    assert set(found[0][1]) != set(found[1][1])
    for part, again in zip(found[0], found[2]):
        assert np.array_equal(part, again)
    used = _images.split(1797, 3, validation=10, test=20, used=100)
    assert [len(part) for part in used] == [70, 10, 20]
    assert max(np.concatenate(used)) > 1000  # from everywhere, for a file may be sorted


def test_a_sequence_is_the_image_row_by_row(task):
    parts = task.parts(0)
    train, validation, test = _images.split(1797, 0, validation=300, test=300)
    mean, spread = task.images[train].mean(), task.images[train].std()
    for part, items in zip(
        (parts.train, parts.validation, parts.test.open()), (train, validation, test)
    ):
        u, labels = part.arrays[:2]
        assert u.shape == (len(items), 64, 1)
        assert u.dtype == np.float32
        for pixel in (0, 9, 62):
            expected = (task.images[items, pixel // 8, pixel % 8] - mean) / spread
            np.testing.assert_allclose(u[:, pixel, 0], expected, atol=2e-5)
        assert np.array_equal(labels, task.labels[items])
    assert abs(parts.train.arrays.u.mean()) < 1e-4
    assert abs(parts.train.arrays.u.std() - 1) < 1e-4


def test_the_digits_are_those_of_scikit_learn():
    images, labels = handwritten_digits()
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert labels[:10].tolist() == list(range(10))
    assert images[0, 0].tolist() == [0, 0, 5 / 16, 13 / 16, 9 / 16, 1 / 16, 0, 0]


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'ssm_manual\[examples\]'"):
        SequentialDigits()


@pytest.mark.parametrize("options", [{"data": "x.npz"}, {"items": 3}, {"quick": 1}])
def test_digits_take_no_other_options(options):
    with pytest.raises(ValueError, match=f"^data is|{next(iter(options))}"):
        SequentialDigits(**options)


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("model", SequentialDigits.models)
def test_settings_are_the_first_candidate_and_rivals_are_of_its_size(model, quick):
    task = SequentialDigits(quick=quick)
    candidates = task.candidates(model)
    assert task.settings(model) == candidates[0]
    assert len({str(one) for one in candidates}) == len(candidates)
    settings, _ = training_run.options_of(task, model)
    assert settings == dataclasses.replace(candidates[0], d_model=settings.d_model)


# ----------------------------------------------------------------------------------------- varying


def turned(images, angle=0.0, scale=1.0, move=(0, 0), dark=0.0):
    n = len(images)
    full = (np.full(n, float(value)) for value in (angle, scale))
    return _images.transformed(images, *full, np.array(move, float)[:, None].repeat(n, 1), dark)


@pytest.mark.parametrize("shape", [(2, 5, 8), (1, 1, 1), (3, 6, 6)])
def test_images_are_moved_turned_and_resized(rng, shape):
    images = rng.random(shape)
    assert np.array_equal(turned(images), images)
    assert turned(images.astype(np.float32)).dtype == np.float32
    moved = np.full(shape, -3.0)
    moved[:, 1:, : shape[2] - 2] = images[:, : shape[1] - 1, 2:]
    np.testing.assert_allclose(turned(images, move=(1, -2), dark=-3.0), moved, atol=1e-12)
    if shape[1] == shape[2]:
        # from the first axis (down) towards the second (right)
        expected = np.rot90(images, axes=(1, 2))
        np.testing.assert_allclose(turned(images, angle=np.pi / 2), expected, atol=1e-12)
    np.testing.assert_allclose(turned(images, angle=np.pi), images[:, ::-1, ::-1], atol=1e-12)
    for move in ((0, 50), (0, -50), (50, 0), (-50, 0)):
        assert np.all(turned(images, move=move, dark=2.0) == 2)


def test_between_pixels_and_twice_the_size():
    image = np.array([[[0.0, 1.0, 3.0], [4.0, 6.0, 6.0], [0.0, 0.0, 0.0]]])
    assert turned(image, move=(0, 0.25))[0, 0].tolist() == [0, 0.75, 2.5]
    assert turned(image, move=(-0.5, 0))[0, :, 0].tolist() == [2, 2, 0]
    large = turned(image, scale=2.0)[0]
    assert large[1].tolist() == [5, 6, 6]  # half a pixel from the middle one
    assert large[0, 0] == (0 + 1 + 4 + 6) / 4


def test_every_epoch_varies_anew_within_bounds(rng):
    """A dot in the middle stays within the bounds of the moves; corners turn the least."""
    images = np.zeros((40, 9, 9), np.float32)
    images[:, 4, 4] = 1
    labels = np.arange(40)
    varied = _images.Varied(images.reshape(40, 81, 1), labels, (9, 9), 0.0, batch_size=16)
    first, second, again = (
        list(varied(epoch, np.random.default_rng(epoch))) for epoch in (0, 1, 0)
    )
    assert [len(batch.u) for batch in first] == [16, 16, 8]
    assert sorted(np.concatenate([batch.target for batch in first])) == list(range(40))
    for a, b, c in zip(first, second, again):
        assert np.array_equal(a.u, c.u)
        assert not np.array_equal(a.u, b.u)
    u = np.concatenate([batch.u for batch in first]).reshape(40, 9, 9)
    down, right = np.meshgrid(range(-4, 5), range(-4, 5), indexing="ij")
    mass = u.sum(axis=(1, 2))
    for axis in (down, right):
        place = (u * axis).sum(axis=(1, 2)) / mass
        assert 0.75 < np.abs(place).max() < varied.MOVE + 0.5  # half a pixel: bilinear
        assert place.min() < 0 < place.max()
    assert np.array_equal(varied.arrays.u.reshape(40, 9, 9), images)


# ----------------------------------------------------------------------------------------- a file


@pytest.fixture
def file(tmp_path, task):
    """Some of the digits as an .npz archive, sorted by label."""
    order = np.argsort(task.labels[:700], kind="stable")
    path = tmp_path / "sorted.npz"
    np.savez(path, x=(255 * task.images[order]).astype(np.uint8), y=task.labels[order])
    return path


def test_a_file_is_split(file):
    task = SequentialMNIST(data=file, items=200)
    assert task.shape() == {
        "d_input": 1, "d_output": 10, "task": "classification", "positions": 64
    }  # fmt: skip
    parts = task.parts(3)
    test = parts.test.open()
    assert [part.items for part in (parts.train, parts.validation, test)] == [160, 20, 20]
    assert len(set(rows(parts.train) + rows(parts.validation) + rows(test))) == 200
    assert len(set(test.arrays.target)) > 5
    assert isinstance(parts.train, _images.Varied)
    assert parts.train.size == (8, 8)
    assert parts.train.dark == parts.train.arrays.u.min()
    assert [part.items for part in SequentialMNIST(data=[file]).parts(0)[:2]] == [560, 70]


def test_what_a_file_must_be(file, tmp_path):
    with pytest.raises(ValueError, match=r"^data is None; it must be an \.npz archive"):
        SequentialMNIST()
    with pytest.raises(ValueError, match="items is 49; it must be at least 50"):
        SequentialMNIST(data=file, items=49)
    np.savez(tmp_path / "few.npz", x=np.zeros((49, 4, 4)), y=np.arange(49))
    with pytest.raises(ValueError, match=r"few\.npz: holds 49 images; there must be at least 50"):
        SequentialMNIST(data=tmp_path / "few.npz")


def test_a_quick_look_at_a_file(file):
    task = SequentialMNIST(data=file, quick=True)
    assert task.images.shape == (700, 4, 4)
    assert task.images[5, 1, 2] == SequentialMNIST(data=file).images[5, 2:4, 4:6].mean()
    found = training_run.compare(task, ("s4d",), progress=False)
    assert found.test.items == 50
    losses = found.runs[0].history["epoch_loss"]
    assert losses[-1] < losses[0]
    assert found.rivals[0].value > 0.5
    ax = plots.figure().add_subplot()
    task.draw(found.runs, ax)
    assert len(ax.child_axes) == 2


def test_nearest_neighbours(rng):
    known, asked = rng.standard_normal((60, 3)), rng.standard_normal((30, 3))
    labels = rng.integers(0, 4, 60)
    for k in (1, 2, 5, 60):
        found = nearest_neighbours(known, labels, asked, k)
        for one, a in zip(found, asked):
            near = labels[np.argsort(np.sum((known - a) ** 2, axis=1))[:k]]
            counts = np.bincount(near, minlength=4)
            assert one == next(label for label in near if counts[label] == counts.max())
    with pytest.raises(ValueError, match="k is 61"):
        nearest_neighbours(known, labels, asked, 61)
    with pytest.raises(ValueError, match="labels has shape"):
        nearest_neighbours(known, labels[1:], asked, 1)
    with pytest.raises(ValueError, match="asked has shape"):
        nearest_neighbours(known, labels, asked[:, 1:], 1)


@pytest.mark.parametrize("which", ["digits", "mnist"])
def test_settings_of_rivals_are_chosen_on_validation(which, file):
    """A test part whose labels mean nothing changes scores, not choices."""
    quick = {"quick": True}
    task = SequentialDigits(**quick) if which == "digits" else SequentialMNIST(data=file, **quick)
    parts = task.parts(0)
    test = parts.test.open()
    honest = task.rivals(parts, test)
    for label in range(4):
        test.arrays.target[:] = label
        spoiled = task.rivals(parts, test)
        assert [score.note for score in spoiled] == [score.note for score in honest]


# ------------------------------------------------------------------------------------- quick run


def test_a_quick_run_learns_and_is_drawn():
    task = SequentialDigits(quick=True)
    found = training_run.compare(task, ("s4d", "lstm"), progress=False)
    s4d, lstm = found.runs
    assert s4d.test["accuracy"] > 0.4
    assert abs(lstm.parameters / s4d.parameters - 1) < 0.1
    assert [score.name for score in found.rivals] == [
        "nearest neighbours", "support vector machine", "logistic regression"
    ]  # fmt: skip
    assert all(score.value > 0.85 for score in found.rivals)
    assert found.rivals == classical(task.parts(0), found.test)

    ax = plots.figure().add_subplot()
    task.draw(list(found.runs), ax)
    above, below = ax.child_axes
    assert len(above.images) == _images.ROWS * _images.COLUMNS
    assert below.get_xlabel().startswith("pixel (number)")
    # the hardest: their mean log probability of the right label is the smallest there is
    u, labels = found.test.arrays[:2]
    logits = [run.model.forward(u, cache=False)[0].astype(float) for run in found.runs]
    right = sum(y[range(len(y)), labels] - np.log(np.exp(y).sum(axis=1)) for y in logits)
    worst = right.argmin()
    np.testing.assert_array_equal(above.images[0].get_array(), u[worst].reshape(8, 8))
    answers = [t.get_text() for t in above.texts if t.get_text() not in ("s4d", "lstm")]
    wrong = int(logits[0][worst].argmax())
    assert answers[0] == ("\u2713" if wrong == labels[worst] else str(wrong))
