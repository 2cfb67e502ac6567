"""`ens data clean`: what is found, shown and written."""

import csv
import json
import re
from functools import partial

import numpy as np
import pytest
from PIL import Image

from members.data.cleaning.id_lists import read_drop_list
from members.data.load_dataset import load_dataset
from members.data.sample import draw_sample

IMAGES, SIZE = 120, (16, 32)


@pytest.fixture(scope="module")
def sample():
    return draw_sample(images=IMAGES, test=9, validation=8, size=SIZE, seed=6)


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """The page goes to the working folder, unless asked."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def data(sample, somewhere):
    return sample.save(somewhere)[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """t-SNE of a few images says as much as of many."""
    monkeypatch.setattr("members.data.cleaning.page.TSNE_ITERATIONS", 250)


@pytest.fixture
def clean(answer):
    """Run `ens data clean` and return its text."""
    return partial(answer, "data", "clean")


@pytest.fixture
def document(clean):
    """Run `ens data clean --json` and return its document."""
    return lambda *words: json.loads(clean(*words, "--json"))


@pytest.fixture
def refused(refusal):
    """Run `ens data clean`, which must refuse, and return its one line."""
    return partial(refusal, "data", "clean")


def write(path, *lines):
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


class TestLooking:
    def test_counts_and_ids_by_reason(self, data, sample, document):
        found = document(data)
        ids = load_dataset(data)["training"].ids
        assert found["ids"]["shared mask"] == [ids[place] for place in sample.outliers]
        copies = set(found["ids"]["near-duplicate"])
        assert all(len(copies & {ids[a], ids[b]}) == 1 for a, b in sample.duplicates.tolist())
        assert found["counts"] == {reason: len(names) for reason, names in found["ids"].items()}
        assert found["kept"] == found["images"] - sum(found["counts"].values())
        assert set(found["why"]) == {name for names in found["ids"].values() for name in names}
        assert found["out"] is None

    def test_says_what_where_and_that_nothing_is_written(self, data, clean, somewhere):
        text = clean(data)
        assert "of 120 images to drop" in text
        assert "shared mask        10  (first: train-" in text
        assert "page: cleaning/index.html" in text
        assert "--apply --out FILE.npz writes the rest" in text
        assert {path.name for path in (somewhere / "cleaning").iterdir()} == {
            "index.html",
            "dropped.csv",
            "dropped.txt",
        }

    def test_the_page_shows_each_dropped_image_with_mask_and_reason(self, data, document):
        found = document(data, "--page", "deep/page")
        page = (data.parent / "deep/page/index.html").read_text(encoding="utf-8")
        for name, why in found["why"].items():
            assert f"<b>{name}</b>: {why}" in page
        cards = found["images"] - found["kept"] + len(found["strangest_kept"])
        # Image and mask a card, both again of what a copy is a copy of, and the t-SNE image.
        shown = 2 * cards + 2 * found["counts"]["near-duplicate"] + 1
        assert page.count('src="data:image/png;base64,') == shown
        assert not re.search(r'src="(?!data:)|<script|https?://', page)

    def test_the_page_escapes_what_ids_hold(self, sample, clean, somewhere):
        names = np.array([f"<i>{place}" for place in range(IMAGES)])
        images, masks = sample.training_set[:, 0], sample.training_set[:, 1]
        np.savez(somewhere / "own.npz", images=images, masks=masks, source=names)
        clean(somewhere / "own.npz")
        page = (somewhere / "cleaning/index.html").read_text(encoding="utf-8")
        assert "&lt;i&gt;" in page
        assert "<i>" not in page

    def test_what_was_dropped_is_a_drop_list_again(self, data, document, somewhere):
        found = document(data)
        ids = load_dataset(data)["training"].ids
        kept = read_drop_list(somewhere / "cleaning/dropped.txt", ids)
        assert {ids[place] for place in np.flatnonzero(~kept)} == set(found["why"])
        rows = list(
            csv.DictReader((somewhere / "cleaning/dropped.csv").read_text("utf-8").splitlines())
        )
        assert {row["id"]: row["why"] for row in rows} == found["why"]

    @pytest.mark.slow
    def test_a_second_page_replaces_the_first(self, data, document):
        first = document(data)
        second = document(data, "--novelty", "0.1")
        assert second["counts"]["novelty"] == round(0.1 * first["kept"])
        assert second["ids"]["novelty"] == sorted(
            entry["id"] for entry in first["strangest_kept"][: second["counts"]["novelty"]]
        )
        assert "Novelty: " in (data.parent / "cleaning/index.html").read_text(encoding="utf-8")

    def test_a_handful_of_unlabelled_colour_images_has_a_page_too(self, document, somewhere):
        images = np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), np.uint8)
        np.savez(somewhere / "few.npz", images=images[[0, 1, 2, 3, 0]])
        found = document("few.npz")
        assert found["ids"]["near-duplicate"] == ["few-00004"]
        assert found["strangest_kept"] == []
        page = (somewhere / "cleaning/index.html").read_text(encoding="utf-8")
        assert page.count("<img") == 2
        assert "t-SNE" not in page


class TestLists:
    def test_listed_images_go_and_exempt_ones_stay(self, data, sample, document, somewhere):
        ids = load_dataset(data)["training"].ids
        clean = next(place for place in range(IMAGES) if place not in sample.outliers)
        drop = write(somewhere / "drop.txt", f"{ids[clean]}  # blurred")
        keep = write(somewhere / "keep.txt", ids[sample.outliers[0]])
        found = document(data, "--drop", drop, "--keep", keep)
        assert found["ids"]["drop list"] == [ids[clean]]
        assert found["ids"]["shared mask"] == [ids[place] for place in sample.outliers[1:]]

    def test_an_unknown_id_is_refused(self, data, refused, somewhere):
        line = refused(data, "--drop", write(somewhere / "x.txt", "train-99999"))
        assert "names 1 unknown ids (first: 'train-99999')" in line
        assert "such as 'train-00000'" in line
        assert not (somewhere / "cleaning").exists()

    def test_an_id_in_both_lists_is_refused(self, data, refused, somewhere):
        both = write(somewhere / "x.txt", "train-00003")
        line = refused(data, "--drop", both, "--keep", both)
        assert "train-00003 is both in" in line

    def test_the_last_image_of_a_class_is_refused(self, data, refused, somewhere):
        training = load_dataset(data)["training"]
        rocky = (training.target() == 4).any(axis=(1, 2))
        names = [training.ids[place] for place in np.flatnonzero(rocky)]
        line = refused(data, "--drop", write(somewhere / "x.txt", *names))
        assert "the last image of class 'big rock'" in line


class TestApplying:
    def test_writes_the_rest_in_the_competitions_layout(self, data, document, somewhere):
        before = data.read_bytes()
        found = document(data, "--apply", "--out", "new.npz")
        assert data.read_bytes() == before
        old, new = load_dataset(data), load_dataset(somewhere / "new.npz")
        kept = ~np.isin(old["training"].ids, list(found["why"]))
        assert len(new["training"]) == kept.sum() == found["kept"] < IMAGES
        for name in ("images", "masks", "groups"):
            whole, rest = getattr(old["training"], name), getattr(new["training"], name)
            np.testing.assert_array_equal(rest, whole[kept])
        np.testing.assert_array_equal(new["test"].images, old["test"].images)

    @pytest.mark.slow
    def test_a_cleaned_file_is_clean(self, data, clean, document):
        clean(data, "--apply", "--out", "new.npz")
        assert document("new.npz")["why"] == {}

    def test_a_general_file_keeps_layout_ids_and_arrays_of_its_own(
        self, sample, document, somewhere
    ):
        images, masks = sample.training_set[:, 0], sample.training_set[:, 1]
        colour = np.stack([images] * 3, axis=-1)
        own = {
            "weight": np.arange(IMAGES),
            "camera": np.array("left"),
            "source": ["x"] * IMAGES,
        }
        np.savez(somewhere / "own.npz", images=colour, masks=masks, **own)
        ids = load_dataset(somewhere / "own.npz")["training"].ids
        found = document("own.npz", "--apply", "--out", "new.npz")
        with np.load(somewhere / "new.npz") as new:
            assert new["images"].shape == (found["kept"], *SIZE, 3)
            assert str(new["camera"]) == "left"
            kept = [ids[weight] for weight in new["weight"]]
        assert kept == [name for name in ids if name not in found["why"]]
        assert list(load_dataset(somewhere / "new.npz")["training"].ids) == kept

    def test_a_folder_becomes_a_general_file(self, sample, clean, somewhere):
        for kind, index in (("images", 0), ("masks", 1)):
            (somewhere / "own" / kind).mkdir(parents=True)
            for place in range(40):
                image = Image.fromarray(sample.training_set[place, index])
                image.save(somewhere / "own" / kind / f"n{place:02d}.png")
        write(somewhere / "x.txt", "n07")
        clean("own", "--drop", "x.txt", "--apply", "--out", "new.npz")
        old, new = (
            load_dataset(somewhere / "own")["training"],
            load_dataset(somewhere / "new.npz")["training"],
        )
        assert "n07" not in new.ids
        kept = np.isin(old.ids, new.ids)
        np.testing.assert_array_equal(new.images, old.images[kept])
        np.testing.assert_array_equal(new.masks, old.masks[kept])
        assert new.classes == old.classes

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--apply"], "--apply and --out FILE.npz go together"),
            (["--out", "new.npz"], "--apply and --out FILE.npz go together"),
            (["--apply", "--out", "new.npy"], "new.npy cannot be written; expected a name that"),
            (["--apply", "--out", "sample.npz"], "sample.npz already exists"),
            (["--page", "sample.npz"], "--page sample.npz is a file; expected a folder"),
            (["--page", "."], "index.html is another page; take another --page"),
            (["--novelty", "1"], "1.0 is not in the range 0<=x<1"),
        ],
    )
    def test_what_cannot_be_written_is_refused(self, data, refused, somewhere, arguments, expected):
        write(somewhere / "index.html", "mine")
        before = {path: path.read_bytes() for path in somewhere.iterdir()}
        assert expected in refused(data, *arguments)
        assert {path: path.read_bytes() for path in somewhere.iterdir()} == before
