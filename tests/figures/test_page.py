"""The interactive page, in a real browser: what it shows, and what mouse, finger and keys do."""

import base64
import itertools
import json
import re

import numpy as np
import pytest
from conftest import DESKTOP, needs_browser, wait, write_run
from test_figures import load_run

from center_loss import figures
from center_loss.base.errors import UserError
from center_loss.data import load_mnist
from center_loss.figures import page as page_module
from center_loss.figures import style
from center_loss.runs.contents import load_features, load_snapshots

COLOR_AT = """() => { window.colorAt = (x, y) => {
    const { canvas, paper, ratio } = plane, box = canvas.getBoundingClientRect();
    return Array.from(paper.getImageData((x - box.x) * ratio, (y - box.y) * ratio, 1, 1).data);
}; }"""
PHONE = {"width": 390, "height": 844}
SMALL, ON_ITS_SIDE = {"width": 320, "height": 640}, {"width": 844, "height": 390}
TABLET, WALL = {"width": 820, "height": 1180}, {"width": 1920, "height": 1080}


@pytest.fixture(scope="module")
def test_set(mnist_root):
    """All test images and labels, as arrays."""
    mnist = load_mnist(mnist_root, train_size=1)
    return mnist.test_images.numpy(), mnist.test_labels.numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def write_page_run(mnist_root, test_set):
    """Write a run whose test set is MNIST's, with some of its predictions wrong."""

    def write(folder, lam, snapshots=4, size=10_000, root=mnist_root, **options):
        write_run(folder, lam, test_labels=test_set[1][:size], snapshots=snapshots,
                  data={"root": root}, **options)  # fmt: skip
        arrays = dict(np.load(folder / "features.npz"))
        wrong = np.arange(5, size, 501)
        arrays["test_predictions"][wrong] = (arrays["test_labels"][wrong] + 1) % 10
        np.savez(folder / "features.npz", **arrays)
        return folder

    return write


@pytest.fixture
def make_page_run(write_page_run, tmp_path):
    return lambda name, *given, **options: write_page_run(
        tmp_path / "runs" / name, *given, **options
    )


@pytest.fixture(scope="module")
def built(write_page_run, tmp_path_factory):
    """The page of a softmax run and two joint ones; the file and the joint run that it opens."""
    runs = tmp_path_factory.mktemp("runs")
    write_page_run(runs / "softmax", 0, seed=1)
    joint = write_page_run(runs / "joint", 0.01, seed=1)
    write_page_run(runs / "other", 1, seed=1)
    said = []
    figures.draw("page", runs, "paper", said.append)
    assert said == [str(runs / "page.html")]
    return runs / "page.html", joint


@pytest.fixture
def opened(open_file, built):
    """Open the page, when all of it is there."""

    def open_page(size=DESKTOP, file=built[0], **options):
        page = open_file(file, size, **options)
        wait(page, "images.complete && !dirty")
        page.evaluate(COLOR_AT)
        return page

    return open_page


def settle(page):
    """Wait until nothing moves any more."""
    wait(page, "!page.state.playing && !change && !dirty")


def card_is_shown(page):
    return page.evaluate("getComputedStyle($('card')).visibility") == "visible"


def picture(page):
    return page.locator("#canvas").screenshot()


def places(page, count):
    """Where the page draws the first images, relative to the whole picture."""
    return np.array(page.evaluate(f"Array.from(places.slice(0, {2 * count}))"), float).reshape(
        -1, 2
    )


# ---- the file


def test_size_and_content(built, test_set):
    html = built[0].read_text()
    assert len(html.encode()) < 3_500_000  # of it 2.6 MB are the images
    assert not re.search(r"https?://", html)
    data = json.loads(re.search(r"const DATA = (.*);\n", html)[1])
    assert [each["name"] for each in data["runs"]] == ["softmax", "λ = 0.01", "λ = 1"]
    assert data["first"] == 1
    arrays = load_features(built[1])
    held = base64.b64decode(data["runs"][1]["features"])
    features = np.frombuffer(held, "<i2").reshape(-1, 2) * data["limit"] / 32767
    features = features * data["runs"][1]["end"]["reach"]
    np.testing.assert_allclose(features, arrays["test_features"], atol=0.005)


def test_five_runs_at_most_and_it_says_so(make_page_run, tmp_path):
    for k in range(7):
        make_page_run(f"r{k}", 0 if k == 0 else 10.0 ** (k - 6), snapshots=0, size=400)
    said = []
    figures.draw("page", tmp_path / "runs", "paper", said.append)
    html = (tmp_path / "runs/page.html").read_text()
    names = [each["name"] for each in json.loads(re.search(r"DATA = (.*);\n", html)[1])["runs"]]
    assert len(names) == 5
    assert names[0] == "softmax" and names[1] == "λ = 1e-05" and names[-1] == "λ = 1"
    assert said[0].startswith("page holds 5 runs; draw ") and said[0].endswith("runs=FOLDER")
    assert len(re.findall(r"runs/r\d", said[0])) == 2


def test_a_page_that_were_too_large_has_fewer_snapshots(make_page_run, tmp_path, monkeypatch):
    make_page_run("many", 0.01, snapshots=40, size=2000)
    figures.draw("page", tmp_path / "runs", "paper", lambda _: None)
    whole = (tmp_path / "runs/page.html").stat().st_size
    monkeypatch.setattr(page_module, "PAGE_BYTES", whole - 60_000)
    said = []
    figures.draw("page", tmp_path / "runs", "paper", said.append)
    assert said[0].endswith("one in 2 of them is in it")
    html = (tmp_path / "runs/page.html").read_text()
    assert len(html.encode()) <= whole - 60_000
    (one,) = json.loads(re.search(r"DATA = (.*);\n", html)[1])["runs"]
    assert [each["step"] for each in one["snapshots"]] == [0, *range(10, 400, 20)]


def test_names_tell_runs_apart(make_page_run):
    numbers = itertools.count()

    def named(*options):
        names = [f"{next(numbers)}/run" for _ in options]
        folders = [
            make_page_run(name, size=50, snapshots=0, **each)
            for name, each in zip(names, options, strict=True)
        ]
        return page_module.run_names([load_run(folder) for folder in folders])

    assert named({"lam": 0}, {"lam": 0.1, "alpha": 0.5}) == ["softmax", "λ = 0.1"]
    assert named({"lam": 0.1, "alpha": 0.1}, {"lam": 0.1, "alpha": 0.5}) == [
        "λ = 0.1, α = 0.1", "λ = 0.1, α = 0.5",
    ]  # fmt: skip
    assert named({"lam": 0, "seed": 3}, {"lam": 0, "seed": 4}) == [
        "softmax, seed 3", "softmax, seed 4",
    ]  # fmt: skip
    assert named({"lam": 0.1}, {"lam": 0.1}) == ["λ = 0.1, 6/run", "λ = 0.1, 7/run"]


def test_a_run_whose_bias_is_lost(make_page_run):
    folder = make_page_run("biased", 0.1, size=400)
    arrays = dict(np.load(folder / "features.npz"))
    arrays["test_predictions"][:20] = (arrays["test_labels"][:20] + 1) % 10
    np.savez(folder / "features.npz", **arrays)
    with pytest.raises(UserError, match="lacks the last layer's bias"):
        figures.draw("page", folder.parent, "paper", lambda _: None)


def test_mnist_is_found_where_any_run_had_it(make_page_run, tmp_path, mnist_root, monkeypatch):
    make_page_run("gone", 0.1, size=400, root="/nowhere/data")
    make_page_run("there", 1, size=400)
    monkeypatch.chdir(tmp_path)
    figures.draw("page", tmp_path / "runs", "paper", lambda _: None)
    assert not (tmp_path / "data").exists()


def test_a_diverged_run_ends_with_its_last_checkpoint(make_page_run):
    """Which may be later than its last snapshot."""
    one = load_run(make_page_run("diverged", 0.1, size=400))
    one.metrics.update(steps=99, diverged_at=120)
    arrays, snapshots = page_module._load(one, load_features(one.folder)["test_labels"])
    described = page_module._describe(one, "x", arrays, snapshots)
    assert [moment["step"] for moment in described["snapshots"]] == [0, 10, 20, 30, 99]
    last = described["snapshots"][-1]["features"] * described["end"]["reach"]
    np.testing.assert_allclose(last, arrays["test_features"][::2], rtol=1e-5)
    assert "it diverged at 120" in described["caption"]["en"]
    assert "在第 120 步发散" in described["caption"]["zh"]


def test_what_the_page_refuses(make_page_run, make_run, tmp_path, mnist_root):
    make_run("invented", 0.1, data={"root": mnist_root})  # labels that aren't MNIST's
    with pytest.raises(UserError, match="invented has other test labels than MNIST"):
        figures.draw("page", tmp_path / "runs", "paper", lambda _: None)


# ---- what is to be seen


@needs_browser
def test_dots_have_the_colour_of_their_digit(opened, built):
    page = opened()
    for option in ("regions", "centers"):
        page.uncheck(f"#{option}")
    settle(page)
    labels = load_features(built[1])["test_labels"]
    for digit in range(10):
        i = int(np.flatnonzero(labels == digit)[0])
        color = page.evaluate(f"colorAt(...page.locate({i}))")
        wanted = [int(style.PALETTES["paper"][digit][k : k + 2], 16) for k in (1, 3, 5)]
        assert np.abs(np.array(color[:3]) - wanted).max() < 70, digit


@needs_browser
def test_places_are_the_features(opened, built):
    page = opened()
    arrays = load_features(built[1])
    reach = page.evaluate("moment.reach")
    np.testing.assert_allclose(places(page, 10_000) * reach, arrays["test_features"], atol=0.005)
    assert page.evaluate("moment.centers") == pytest.approx(arrays["centers"], rel=1e-4, abs=1e-4)
    x, y = page.evaluate("page.locate(7)")
    box = page.locator("#canvas").bounding_box()
    half = min(box["width"], box["height"]) / 2 - 1  # its border
    u, v = arrays["test_features"][7] / reach
    assert x == pytest.approx(box["x"] + box["width"] / 2 + half * u, abs=1.5)
    assert y == pytest.approx(box["y"] + box["height"] / 2 - half * v, abs=1.5)


@needs_browser
def test_regions_are_where_the_last_layer_chooses_a_digit(opened, make_page_run):
    """Also with a bias, by the colours of the canvas."""
    folder = make_page_run("biased", 0.01, size=100)
    arrays = dict(np.load(folder / "features.npz"))
    arrays["bias"] = np.linspace(-20, 20, 10).astype(np.float32)
    logits = arrays["test_features"] @ arrays["weight"].T + arrays["bias"]
    arrays["test_predictions"] = logits.argmax(1).astype(np.uint8)
    np.savez(folder / "features.npz", **arrays)
    figures.draw("page", folder.parent, "paper", lambda _: None)
    page = opened(file=folder.parent / "page.html")
    page.uncheck("#centers")
    page.evaluate("plane.drawDots = () => {}; page.redraw()")
    settle(page)
    box, reach = page.locator("#canvas").bounding_box(), page.evaluate("moment.reach")
    half = min(box["width"], box["height"]) / 2
    right = seen = 0
    for px in range(60, int(box["width"]) - 60, 19):
        for py in range(20, int(box["height"]) - 40, 17):
            point = np.array([px - box["width"] / 2, box["height"] / 2 - py]) / half * reach
            logits = arrays["weight"] @ point + arrays["bias"]
            if np.diff(np.sort(logits)[-2:])[0] < 3:
                continue  # next to a border
            color = page.evaluate(
                f"Array.from(plane.paper.getImageData({px} * plane.ratio, {py} * plane.ratio, 1, 1)"
                ".data)"
            )
            tints = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in style.PALETTES["paper"]]
            seen += 1
            right += np.abs(np.array(tints) - color[:3]).sum(1).argmin() == logits.argmax()
    assert seen > 300 and right > 0.95 * seen  # but for grid lines and numbers


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(opened, scheme):
    page = opened(color_scheme=scheme)

    def luminance(name):
        color = page.evaluate(
            f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')"
        ).strip()
        parts = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    def contrast(a, b):
        high, low = sorted([luminance(a), luminance(b)], reverse=True)
        return (high + 0.05) / (low + 0.05)

    for front, back in [("front", "back"), ("muted", "back"), ("front", "panel"),
                        ("on-accent", "accent")]:  # fmt: skip
        assert contrast(front, back) >= 4.5, (front, back)
    assert (luminance("back") < 0.05) == (scheme == "dark")
    white = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert white == (scheme == "light")
    palette = style.PALETTES_ON_DARK if scheme == "dark" else style.PALETTES
    assert page.evaluate("colours.digits") == palette["paper"]


@needs_browser
@pytest.mark.parametrize("size", [DESKTOP, PHONE, SMALL, ON_ITS_SIDE, TABLET, WALL])
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_everything_fits(opened, size, language):
    page = opened(size, has_touch=True, locale=language)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    for control in page.locator(":is(button, label, input[type=range]):visible").all():
        box = control.bounding_box()
        assert box["height"] >= 32 and box["x"] >= 0
        assert box["x"] + box["width"] <= size["width"]
    plot = page.locator("#canvas").bounding_box()
    assert min(plot["width"], plot["height"]) > 0.5 * min(size.values())
    if size["width"] >= 1280:  # nothing is below the fold
        assert page.evaluate("document.documentElement.scrollHeight") <= size["height"]


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("marked", [False, True])
def test_it_is_smooth(opened, marked):
    """Thirty frames a second with all 10,000 dots, each of them drawn anew, without a GPU."""
    page = opened()
    if marked:  # hundreds of errors
        page.evaluate("labels.set(labels.map((label, i) => (i % 5 ? label : (label + 1) % 10)))")
        page.check("#wrong")
        wait(page, "wrong.length > 1900")
    frames = """() => new Promise((done) => {
        let count = 0, began = performance.now();
        const next = () => {
            page.zoomBy(count++ % 2 ? 1.01 : 1 / 1.01);
            performance.now() - began < 1000 ? requestAnimationFrame(next) : done(count);
        };
        requestAnimationFrame(next); })"""
    assert max(page.evaluate(frames) for _ in range(4)) >= 30


# ---- what one can do


@needs_browser
def test_hover_shows_the_digit(opened, built, test_set):
    page = opened()
    arrays = load_features(built[1])
    for i in (5, 7, 1234):  # the first is predicted wrongly
        page.evaluate(
            f"state.view = {{x: places[{2 * i}], y: places[{2 * i + 1}], zoom: 300}}; page.redraw()"
        )
        settle(page)
        page.mouse.move(*page.evaluate(f"page.locate({i})"))
        settle(page)
        assert card_is_shown(page)
        text = page.inner_text("#facts")
        label, prediction = (arrays[f"test_{key}"][i] for key in ("labels", "predictions"))
        away = np.linalg.norm(arrays["test_features"][i] - arrays["centers"][label])
        assert text.startswith(f"digit {label}, predicted {prediction}")
        shown = float(re.search(r"([\d.]+) from its center c(\d)", text)[1])
        assert shown == pytest.approx(away, abs=0.01)
        assert f"test image {i:,}" in text
        assert page.locator("#facts b.wrong").count() == (label != prediction)
        pixels = page.evaluate(
            "Array.from($('digit').getContext('2d').getImageData(0, 0, 28, 28).data)"
        )
        np.testing.assert_array_equal(np.array(pixels).reshape(28, 28, 4)[..., 0], test_set[0][i])
    page.mouse.move(2, 2)
    settle(page)
    assert not card_is_shown(page)


@needs_browser
def test_slider_shows_the_snapshots(opened, built):
    page = opened()
    snapshots, whole = load_snapshots(built[1]), picture(page)
    assert "step" in page.inner_text("#moment") and "all 10,000 images" in page.inner_text(
        "#moment"
    )
    page.focus("#slider")
    for k in (2, 1, 0):
        page.keyboard.press("ArrowLeft")
        settle(page)
        assert page.inner_text("#moment").startswith(f"step {10 * k}: 5,000 images, ")
        drawn = places(page, 10_000) * page.evaluate("moment.reach")
        np.testing.assert_allclose(drawn[::2], snapshots["features"][k], atol=0.005)
        assert np.isnan(drawn[1::2]).all()
        wanted = (snapshots["features"][k][:50] @ snapshots["weight"][k].T).argmax(1)
        got = [page.evaluate(f"page.predictionOf({2 * m})") for m in range(50)]
        assert got == wanted.tolist()
    assert picture(page) != whole
    page.locator("#slider").fill("1.5")  # between two snapshots
    settle(page)
    between = places(page, 10_000)[::2]
    page.locator("#slider").fill("1")
    settle(page)
    assert not np.allclose(places(page, 10_000)[::2], between, atol=1e-6)
    page.locator("#slider").fill("3")
    settle(page)
    page.mouse.move(2, 2)
    assert "all 10,000 images" in page.inner_text("#moment")


@needs_browser
def test_play_runs_to_the_end(opened):
    page = opened()
    page.click("#play")
    wait(page, "state.at > 0.2 && state.at < 2.5 && $('play').ariaLabel === 'Stop'")
    page.keyboard.press("Escape")
    settle(page)
    assert page.evaluate("state.at") == 3
    assert page.get_attribute("#play", "aria-label") == "Play"


@needs_browser
def test_runs_are_switched(opened, built):
    page = opened()
    before = picture(page)
    assert page.locator(".run[aria-checked=true]").inner_text() == "λ = 0.01"
    page.click(".run >> nth=0")
    settle(page)
    assert page.locator(".run[aria-checked=true]").inner_text() == "softmax"
    assert picture(page) != before
    assert "softmax loss alone" in page.inner_text("#caption")
    assert page.inner_text("#centers-name") == "class means"
    arrays = load_features(built[0].parent / "softmax")
    drawn = places(page, 10_000) * page.evaluate("moment.reach")
    np.testing.assert_allclose(drawn, arrays["test_features"], atol=0.005)
    page.focus(".run >> nth=0")
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.locator(".run[aria-checked=true]").inner_text() == "λ = 0.01"


@needs_browser
def test_a_digit_is_shown_alone(opened, built):
    page = opened()
    page.uncheck("#regions")
    page.uncheck("#centers")
    settle(page)
    before = picture(page)
    page.click("#digits button >> nth=3")
    settle(page)
    assert page.locator("#digits button[aria-pressed=true]").inner_text() == "3"
    assert picture(page) != before
    labels = load_features(built[1])["test_labels"]
    three, four = (int(np.flatnonzero(labels == digit)[0]) for digit in (3, 4))
    for i in (three, four):
        page.mouse.move(*page.evaluate(f"page.locate({i})"))
        settle(page)
        assert card_is_shown(page) == (i == three)  # what is faint isn't meant
    page.click("#digits button >> nth=3")
    page.mouse.move(2, 2)
    settle(page)
    assert picture(page) == before


@needs_browser
def test_misclassified_are_marked_on_request(opened, built):
    page = opened()
    arrays = load_features(built[1])
    wrong = np.flatnonzero(arrays["test_predictions"] != arrays["test_labels"])
    assert page.inner_text("#wrong-count") == f"({len(wrong)})"
    before = picture(page)
    page.check("#wrong")
    settle(page)
    assert picture(page) != before
    assert page.evaluate("wrong") == wrong.tolist()
    page.click("#next")
    page.click("#next")
    page.click("#previous")
    settle(page)
    assert page.evaluate("state.held") == wrong[0]
    page.keyboard.press("Escape")
    label = arrays["test_labels"][wrong[0]]
    page.keyboard.press(str(label))
    settle(page)
    own = (arrays["test_labels"][wrong] == label).sum()
    assert page.inner_text("#wrong-count") == f"({own})"  # as many as there are rings


@needs_browser
def test_keys(opened, built):
    page = opened()
    state = lambda: page.evaluate("state")  # noqa: E731
    arrays = load_features(built[1])
    wrong = np.flatnonzero(arrays["test_predictions"] != arrays["test_labels"])
    page.keyboard.press("n")
    page.keyboard.press("n")
    settle(page)
    assert state()["held"] == wrong[1]
    assert f"predicted {arrays['test_predictions'][wrong[1]]}" in page.inner_text("#facts")
    page.keyboard.press("p")
    assert state()["held"] == wrong[0]
    page.keyboard.press("Escape")
    assert state()["held"] is None
    page.keyboard.press("7")
    assert state()["digit"] == 7
    page.keyboard.press("7")
    assert state()["digit"] is None
    page.keyboard.press("+")
    assert state()["view"]["zoom"] == 1.5
    page.focus("#canvas")
    page.keyboard.press("ArrowLeft")
    assert state()["view"]["x"] < 0
    page.keyboard.press("Home")
    assert state()["view"] == {"x": 0, "y": 0, "zoom": 1}
    page.keyboard.press("]")
    assert state()["run"] == 2
    page.keyboard.press("[")
    assert state()["run"] == 1
    for key, option in (("d", "regions"), ("c", "centers"), ("m", "wrong")):
        was = page.is_checked(f"#{option}")
        page.keyboard.press(key)
        assert page.is_checked(f"#{option}") != was
    page.keyboard.press(",")
    assert state()["at"] == 2
    page.keyboard.press(".")
    assert state()["at"] == 3
    for clicked in (".run >> nth=0", "#digits button >> nth=3", "#wrong", "#slider", "#canvas"):
        page.click(clicked)
        page.keyboard.press("Escape")
        page.keyboard.press("Space")
        assert state()["playing"], clicked
        page.keyboard.press("Space")
        assert not state()["playing"], clicked
    page.keyboard.press("3")
    page.keyboard.press("Home")
    page.focus("#canvas")
    page.keyboard.press("Enter")
    assert state()["held"] is not None
    page.evaluate("document.activeElement.blur()")
    # every control can be reached with Tab
    reached = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"run", "canvas", "zoom-in", "play", "slider", "regions", "wrong"} <= reached


@needs_browser
def test_wheel_and_drag(opened):
    page = opened()
    x, y = page.evaluate("page.locate(7)")
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    wait(page, "state.view.zoom > 1.2 && !dirty")
    assert page.evaluate("page.locate(7)") == pytest.approx([x, y], abs=1)  # it stays there
    page.mouse.down()
    page.mouse.move(x + 80, y - 50, steps=5)
    page.mouse.up()
    settle(page)
    assert page.evaluate("page.locate(7)") == pytest.approx([x + 80, y - 50], abs=1)
    assert page.evaluate("state.held") is None  # a drag is no click
    page.mouse.click(x + 80, y - 50)
    settle(page)
    assert card_is_shown(page) and "held" in page.inner_text("#facts")
    page.keyboard.press("Escape")
    page.mouse.click(x + 80, y - 50, button="right")
    assert page.evaluate("state.held") is None
    for _ in range(20):  # the picture isn't lost, however far it is dragged
        page.mouse.move(300, 300)
        page.mouse.down()
        page.mouse.move(700, 700)
        page.mouse.up()
    assert abs(page.evaluate("state.view.x")) <= 1.2


@needs_browser
def test_a_held_image_stays(opened):
    """Also where it isn't among the snapshots' images; others can be looked at meanwhile."""
    page = opened()
    page.mouse.click(*page.evaluate("page.locate(1729)"))
    settle(page)
    held = page.evaluate("state.held")
    page.evaluate("state.held = 1729; page.redraw()")  # what lies next to it may be nearer
    assert held is not None
    page.keyboard.press(",")
    settle(page)
    assert "not among the images of the snapshots" in page.inner_text("#facts")
    page.mouse.move(*page.evaluate("page.locate(1728)"))
    settle(page)
    assert "1,729" not in page.inner_text("#facts") and "predicted" in page.inner_text("#facts")
    page.mouse.move(2, 2)
    page.keyboard.press(".")
    settle(page)
    assert "1,729, held" in page.inner_text("#facts") and "predicted" in page.inner_text("#facts")
    page.keyboard.press("[")
    settle(page)
    assert page.evaluate("state.held") == 1729


@needs_browser
def test_a_page_that_is_shown_later(opened, built, tmp_path):
    """As in a folded part of another page."""
    frame = f'<iframe id="f" src="{built[0].as_uri()}" style="display: none"></iframe>'
    (tmp_path / "outer.html").write_text(frame)
    page = opened()
    page.goto((tmp_path / "outer.html").as_uri())
    page.wait_for_timeout(500)
    page.evaluate("document.querySelector('#f').style = 'width: 1000px; height: 800px'")
    inner = page.frames[1]
    wait(inner, "Boolean(plane.pixels && plane.pixels.data.some((value) => value > 0))")


@needs_browser
def test_fingers(opened):
    page = opened(PHONE, has_touch=True, is_mobile=True)
    i = 7
    page.touchscreen.tap(*page.evaluate(f"page.locate({i})"))
    settle(page)
    assert card_is_shown(page) and "held" in page.inner_text("#facts")
    card, plot = (page.locator(each).bounding_box() for each in ("#card", "#canvas"))
    assert card["y"] >= plot["y"] + plot["height"]  # no dot is below it
    assert card["x"] >= 0 and card["x"] + card["width"] <= PHONE["width"]
    touch = page.context.new_cdp_session(page)
    middle = [plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2]
    for kind, gap in [("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", None)]:
        points = [] if gap is None else [
            {"x": middle[0] - gap, "y": middle[1], "id": 0},
            {"x": middle[0] + gap, "y": middle[1], "id": 1},
        ]  # fmt: skip
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    settle(page)
    assert page.evaluate("state.view.zoom") == pytest.approx(2, rel=0.05)
    assert abs(page.evaluate("state.view.x")) < 0.02


@needs_browser
def test_a_run_without_snapshots(make_page_run, opened):
    make_page_run("softmax", 0, size=100)
    folder = make_page_run("joint", 0.01, size=100, snapshots=0)
    figures.draw("page", folder.parent, "paper", lambda _: None)
    page = opened(file=folder.parent / "page.html")
    assert page.is_disabled("#slider") and page.is_disabled("#play")
    assert "no snapshots" in page.inner_text("#caption")
    page.click(".run >> nth=0")
    settle(page)
    assert page.is_enabled("#slider")
    page.keyboard.press("]")
    page.keyboard.press("Space")
    assert not page.evaluate("state.playing")
