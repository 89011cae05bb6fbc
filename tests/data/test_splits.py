"""Folds and held-out shares: every line in one part, drawn from the seed alone; and what cannot be meant."""

import pytest

from seqsru.data.splits import read_splits
from seqsru.errors import NotFound, Refused


def write(folder, count=50, name="train"):
    path = folder / name
    path.write_text("".join(f"{'ab'[i % 2]} {name} {i}\n" for i in range(count)))
    return path


def places(part):
    """Line numbers, from 0; they say which texts a part has."""
    assert part.texts == [f"train {number - 1}" for number in part.numbers] and len(part) == len(part.labels)
    return [number - 1 for number in part.numbers]


def test_folds_are_a_partition(tmp_path):
    path = write(tmp_path, 53)
    tested = []
    for fold in range(5):
        splits = read_splits(path, folds=5, fold=fold, holdout=0.2)
        assert list(splits) == ["train", "validation", "test"]
        parts = {name: places(part) for name, part in splits.items()}
        assert sorted(sum(parts.values(), [])) == list(range(53))
        assert all(part == sorted(part) for part in parts.values())  # in the order of the file
        assert len(parts["test"]) in (10, 11) and len(parts["validation"]) == round(
            0.2 * (53 - len(parts["test"]))
        )
        tested += parts["test"]
    assert sorted(tested) == list(range(53))


def test_a_fold_is_every_kth_line_of_a_drawn_order(tmp_path):
    """With as many folds as lines each fold is one place of the order; fewer folds take every k-th."""
    path = write(tmp_path, 24)
    order = [places(read_splits(path, folds=24, fold=i)["test"])[0] for i in range(24)]
    assert sorted(order) == list(range(24)) != order
    for fold in range(5):
        assert places(read_splits(path, folds=5, fold=fold)["test"]) == sorted(order[fold::5])
    other = places(read_splits(path, folds=5, split_seed=2)["test"])
    assert other != sorted(order[::5])
    # Held out is what comes first of the rest.
    splits = read_splits(path, folds=5, fold=1, holdout=0.25)
    assert places(splits["validation"]) == sorted([i for at, i in enumerate(order) if at % 5 != 1][:5])


def test_the_parts_are_the_same_on_every_machine(tmp_path):
    """A change of these numbers would make published cross-validations others."""
    splits = read_splits(write(tmp_path, 20), folds=4, fold=2, holdout=0.2)
    assert {name: places(part) for name, part in splits.items()} == {
        "train": [0, 1, 6, 7, 10, 11, 12, 13, 14, 15, 17, 19],
        "validation": [9, 16, 18],
        "test": [2, 3, 4, 5, 8],
    }
    assert read_splits(write(tmp_path, 20), folds=4, fold=2, holdout=0.2) == splits


def test_a_share_is_held_out(tmp_path):
    path = write(tmp_path)
    splits = read_splits(path)
    assert list(splits) == ["train", "validation"] and len(splits["validation"]) == 5
    assert sorted(places(splits["train"]) + places(splits["validation"])) == list(range(50))
    assert len(read_splits(path, holdout=0.5)["validation"]) == 25
    assert len(read_splits(path, holdout=0.001)["validation"]) == 1  # one at least
    again = read_splits(path, test=write(tmp_path, 4, "test"))
    assert again["train"] == splits["train"] and again["validation"] == splits["validation"]
    assert read_splits(path, split_seed=7)["validation"].numbers != splits["validation"].numbers


def test_files_of_their_own(tmp_path):
    path, validation, test = write(tmp_path), write(tmp_path, 6, "validation"), write(tmp_path, 4, "test")
    splits = read_splits(path, validation=validation, test=test, holdout=0.0)
    assert {name: (part.name, len(part)) for name, part in splits.items()} == {
        "train": (str(path), 50),
        "validation": (str(validation), 6),
        "test": (str(test), 4),
    }
    assert places(splits["train"]) == list(range(50))
    splits = read_splits(path, validation=validation, folds=10)
    assert [len(part) for part in splits.values()] == [45, 6, 5]


def test_every_file_is_read_alike(tmp_path):
    for name in ("train", "validation", "test"):
        (tmp_path / name).write_bytes("so so\tCAFÉ\nbad line\nno\tx\n".encode("latin-1"))
    splits = read_splits(
        tmp_path / "train",
        validation=tmp_path / "validation",
        test=tmp_path / "test",
        separator="tab",
        encoding="latin-1",
        on_bad_line="skip",
        lowercase=True,
    )
    for part in splits.values():
        assert (part.labels, part.texts, part.numbers) == (["so so", "no"], ["café", "x"], [1, 3])
        assert part.report.counts == {"without a text, skipped": 1}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"folds": 1}, "^folds: expected folds of at least 2, or 0 for none, found 1; 10 are common$"),
        ({"folds": -1}, "^folds: expected at least 0, found -1"),
        ({"fold": -1, "folds": 3}, "^fold: expected at least 0, found -1"),
        ({"split_seed": -1}, "^split_seed: expected at least 0, found -1"),
        (
            {"folds": 3, "fold": 3},
            "^fold: expected a fold below folds = 3, found 3; folds are counted from 0$",
        ),
        (
            {"fold": 2},
            "^fold: expected folds for a fold to be one of, found fold 2 and folds 0; set folds$",
        ),
        (
            {"folds": 3, "test": True},
            "^test: expected no file for testing beside folds, one of which is the test, found .*/test; "
            "leave out one of them$",
        ),
        ({"holdout": 1.0}, r"^holdout: expected a probability from 0 to below 1, found 1\.0"),
        (
            {"holdout": 0.0},
            r"^holdout: expected a share above 0 where there is no validation file, found 0; 0\.1 is common$",
        ),
        (
            {"holdout": 0.99},
            r"^expected lines for train in .*/train, found none \(6 in .*/train\); check the file",
        ),
        ({"folds": 8, "fold": 7}, r"^folds: expected lines for test in .*/train, found none \(6 in "),
        ({"encoding": "utf-16"}, "^encoding: expected a text encoding"),
        ({"separator": "comma"}, "^separator: expected one of whitespace, tab, found 'comma'"),
    ],
)
def test_what_cannot_be_meant(tmp_path, options, message):
    if "test" in options:
        options = {**options, "test": write(tmp_path, 4, "test")}
    with pytest.raises(Refused, match=message):
        read_splits(write(tmp_path, 6), **options)


def test_files_without_lines_or_with_a_single_label(tmp_path):
    (tmp_path / "empty").write_text("")
    with pytest.raises(Refused, match=r"expected lines for train in .*/empty, found none \(0 in .*/empty\)"):
        read_splits(tmp_path / "empty")
    with pytest.raises(
        Refused, match=r"expected lines for validation in .*/empty, found none \(50 in .*/train\)"
    ):
        read_splits(write(tmp_path), validation=tmp_path / "empty")
    with pytest.raises(Refused, match=r"expected lines for test in .*/empty, found none"):
        read_splits(write(tmp_path), test=tmp_path / "empty")
    with pytest.raises(NotFound, match="expected a text file at .*/absent, found nothing"):
        read_splits(write(tmp_path), test=tmp_path / "absent")
    (tmp_path / "one").write_text("a x\n" * 20)
    with pytest.raises(
        Refused,
        match="^expected lines of at least two labels to learn from in .*/one, found only 'a'; check the "
        "file; separator says what ends a label$",
    ):
        read_splits(tmp_path / "one")


def test_ten_folds_of_a_corpus(mirror):
    path, tested = mirror / "classification" / "custrev.all", []
    for fold in range(10):
        splits = read_splits(path, on_bad_line="skip", folds=10, fold=fold)
        assert len(splits["test"]) in (377, 378) and len(splits["validation"]) == 339
        assert sum(map(len, splits.values())) == 3_771
        tested += splits["test"].numbers
    assert len(tested) == len(set(tested)) == 3_771
