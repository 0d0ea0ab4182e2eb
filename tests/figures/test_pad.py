"""The page's pad: a drawing becomes an image like MNIST's, and lands where PyTorch puts it."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import DESKTOP, ROOT, needs_browser, wait, write_run

from center_loss import figures, models
from center_loss.data import load_mnist, scale
from center_loss.figures import page as page_module
from center_loss.figures import web, weights
from center_loss.runs.checkpoint import load_checkpoint
from center_loss.runs.contents import load_features
from center_loss.runs.files import CHECKPOINT
from center_loss.runs.load import Run, find_runs

PHONE = {"width": 360, "height": 740}
SEVEN = [[(0.25, 0.25), (0.75, 0.25), (0.45, 0.8)]]
BAR = [(0.3, 0.52), (0.65, 0.52)]
LENET_OPTIONS = [
    ("lenetpp", {"slopes": "layer", "last_pool": 2, "classifier_bias": True, "init": "torch"}),
    ("lenet", {}),
]


@pytest.fixture(scope="module")
def test_set(mnist_root):
    """All test images and labels, as arrays."""
    mnist = load_mnist(mnist_root, train_size=1)
    return mnist.test_images.numpy(), mnist.test_labels.numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def trained(command, mnist_root, tmp_path_factory):
    """The folder of two runs, λ = 0 and 0.1, shortly trained, with their page."""
    folder = tmp_path_factory.mktemp("trained")
    done = command(
        "train.py", "-m", "recipe=fast", "loss.lam=0,0.1", "train.max_steps=200",
        "train.batch_size=32", "data.train_size=3000", "data.test_size=2000", "train.snapshots=3",
        f"data.root={mnist_root}", f"hydra.sweep.dir={folder}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures.draw("page", folder, "paper", lambda _: None)
    return folder


@pytest.fixture
def opened(open_file, trained):
    """Open the page with its pad."""

    def open_page(size=DESKTOP, file=trained / "page.html", **options):
        page = open_file(file, size, **options)
        wait(page, "images.complete && !dirty")
        page.click("#draw")
        wait(page, "!dirty")
        return page

    return open_page


def runs_of(folder) -> list[Run]:
    found, _ = find_runs(folder)
    return sorted(found, key=lambda one: one.metrics["lam"])


def network_of(one: Run) -> torch.nn.Module:
    net = models.build(one.recipe.model.name, num_classes=10, **one.recipe.model.arguments)
    net.load_state_dict(load_checkpoint(one.folder)["trainer"]["net"])
    return net.eval()


def draw(page, strokes, pointer="mouse"):
    """Draw strokes, of points from 0 to 1, with the mouse or a finger."""
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    touch = page.context.new_cdp_session(page) if pointer == "finger" else None
    for stroke in strokes:
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        if touch:
            for k, (x, y) in enumerate(places):
                kind = "touchMove" if k else "touchStart"
                touch.send("Input.dispatchTouchEvent",
                           {"type": kind, "touchPoints": [{"x": x, "y": y}]})  # fmt: skip
            touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            continue
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=8)
        page.mouse.up()


def settle(page):
    """Wait until all networks have seen the drawing."""
    wait(page, "page.panel.following.isDone() && !change && !dirty")


def seen(page) -> np.ndarray:
    """The image that the networks get, (28, 28)."""
    return np.array(page.evaluate("Array.from(page.panel.following.image())")).reshape(28, 28)


def forwards(page, packed, images):
    """Features and logits of images (N, 28, 28) by the page's own program."""
    page.evaluate("(packed) => { window.net = unpackNetwork(packed); }", packed)
    features, logits = [], []
    for part in np.array_split(images, -(-len(images) // 50)):
        got = page.evaluate(
            "(images) => images.map((each) => forward(window.net, each))",
            part.reshape(len(part), -1).tolist(),
        )
        features += [each["feature"] for each in got]
        logits += [each["logits"] for each in got]
    return np.array(features), np.array(logits)


def neighbour_distance(centers) -> float:
    """The mean distance of a center to the nearest other one."""
    distances = np.linalg.norm(centers[:, None] - centers[None], axis=2)
    return (distances + np.diag(np.full(len(centers), np.inf))).min(1).mean()


# ---- the networks


@needs_browser
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_features_are_those_of_pytorch(opened, trained, test_set, count):
    page = opened()
    for r, one in enumerate(runs_of(trained)):
        packed = page.evaluate(f"runs[{r}].network")
        features, logits = forwards(page, packed, test_set[0][:count])
        with torch.inference_mode():
            pixels = scale(torch.from_numpy(test_set[0][:count]), packed["mean"], packed["std"])
            wanted, wanted_logits = network_of(one)(pixels)
        away = np.linalg.norm(features - wanted.numpy(), axis=1)
        away = away / neighbour_distance(load_features(one.folder)["centers"])
        assert np.mean(away < 0.02) >= 0.99
        assert np.mean(logits.argmax(1) == wanted_logits.argmax(1).numpy()) >= 0.998


@needs_browser
@pytest.mark.parametrize("name, options", LENET_OPTIONS)
def test_other_networks(opened, test_set, name, options):
    """What the sources' recipes train; their weights as they start."""
    torch.manual_seed(0)
    net = models.build(name, num_classes=10, **options).eval()
    packed = json.loads(json.dumps(weights.pack(net, 10.0, 255.0)))
    features, logits = forwards(opened(), packed, test_set[0][:20])
    with torch.inference_mode():
        wanted, wanted_logits = net(scale(torch.from_numpy(test_set[0][:20]), 10.0, 255.0))
    reach = wanted.abs().max().item()
    np.testing.assert_allclose(features, wanted.numpy(), atol=0.01 * reach)
    np.testing.assert_allclose(
        logits, wanted_logits.numpy(), atol=0.01 * wanted_logits.abs().max().item()
    )


@needs_browser
def test_a_forward_is_fast_enough_to_follow_the_pen(opened, test_set):
    page = opened()
    page.evaluate("window.net = unpackNetwork(runs[0].network)")
    times = page.evaluate(
        """(image) => Array.from({ length: 12 }, () => {
            const began = performance.now();
            forward(window.net, image);
            return performance.now() - began; })""",
        test_set[0][0].ravel().tolist(),
    )
    assert min(times) < 300  # milliseconds; others may have the processor meanwhile


def test_a_page_of_five_runs_is_small(trained):
    html = (trained / "page.html").read_text()
    data = json.loads(re.search(r"const DATA = (.*);\n", html)[1])
    sizes = [len(json.dumps(each["network"])) for each in data["runs"]]
    assert all(1_000_000 < size < 1_500_000 for size in sizes)
    assert len(html.encode()) + 3 * max(sizes) < page_module.PAGE_BYTES == 12_000_000


# ---- the image


@needs_browser
def test_mnist_images_are_prepared_to_themselves(opened, test_set):
    """Drawn ten times as large and elsewhere on the pad, they come out as they were."""
    page = opened()
    away = []
    for part in np.split(test_set[0][:200], 8):
        got = page.evaluate(
            """(images) => images.map((image, number) => {
                const ink = new Uint8Array(RASTER ** 2);
                const right = number % 7 - 3, down = number % 5 - 2;
                for (let y = 0; y < RASTER; y++) {
                    for (let x = 0; x < RASTER; x++) {
                        const column = Math.floor(x / 10) - right, row = Math.floor(y / 10) - down;
                        if (column >= 0 && column < 28 && row >= 0 && row < 28) {
                            ink[y * RASTER + x] = image[28 * row + column];
                        }
                    }
                }
                return Array.from(prepareDigit(ink, RASTER)); })""",
            part.reshape(len(part), -1).tolist(),
        )
        away += [np.abs(np.reshape(each, (28, 28)) - image.astype(int)).mean()
                 for each, image in zip(got, part, strict=True)]  # fmt: skip
    assert np.mean(away) < 1


@needs_browser
def test_a_drawing_is_as_large_as_mnists_digits_and_centered_by_its_mass(opened):
    page = opened()
    for strokes in (SEVEN, [[(0.1, 0.1), (0.14, 0.3)]], [BAR], [[(0.9, 0.9)]]):
        draw(page, strokes)
        settle(page)
        image = seen(page)
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        mass = image / image.sum()
        assert abs((mass.sum(1) * np.arange(28)).sum() - 14) <= 0.51
        assert abs((mass.sum(0) * np.arange(28)).sum() - 14) <= 0.51
        assert image.max() > 240 and len(np.unique(image)) > 3  # smoothed
        page.click("#clear")


# ---- what one can do


@needs_browser
def test_a_drawing_lands_where_pytorch_puts_it(opened, trained):
    page = opened()
    draw(page, SEVEN)
    settle(page)
    image = torch.from_numpy(seen(page).astype(np.uint8))[None]
    for r, one in enumerate(runs_of(trained)):
        data = one.recipe.data
        with torch.inference_mode():
            feature, logits = network_of(one)(scale(image, data.pixel_mean, data.pixel_std))
        arrays = load_features(one.folder)
        near = neighbour_distance(arrays["centers"])
        result = page.evaluate(f"page.panel.following.resultOf({r})")
        assert result["feature"] == pytest.approx(feature[0].tolist(), abs=0.05 * near)
        digit = int(logits.argmax())
        assert page.locator(".small b").nth(r).inner_text() == str(digit)
        page.locator(".small").nth(r).click()
        settle(page)
        assert page.evaluate("state.run") == r
        share = torch.softmax(logits[0], 0).max().item()
        said = page.inner_text("#taken").replace("\xa0", " ")
        assert said.startswith(f"Taken for {digit}, ")
        assert float(re.search(r"([\d.]+) %", said)[1]) == pytest.approx(100 * share, abs=2)
        center = arrays["centers"][digit]
        away = float(re.match(r"[\d.,]+", page.inner_text("#away"))[0].replace(",", ""))
        wanted = np.linalg.norm(feature[0].numpy() - center)
        assert away == pytest.approx(wanted, abs=0.05 * near)
        distances = np.linalg.norm(arrays["test_features"] - result["feature"], axis=1)
        nearest = page.evaluate("[...$('neighbours').children].map((each) => +each.dataset.image)")
        assert distances[nearest] == pytest.approx(
            np.sort(distances)[:5], rel=0.02, abs=0.01 * near
        )
        mark = page.evaluate("page.panel.markOf(state.run).path.at(-1)")
        reach = page.evaluate("current().end.reach")
        assert np.multiply(mark, reach) == pytest.approx(result["feature"])


@needs_browser
def test_the_dot_follows_the_pen(opened):
    """The chosen run's goes a way, with a trail; the others come when the pen rests."""
    page = opened()
    wait(page, "page.panel.following.isDone()")  # it is ready
    box = page.locator("#pad").bounding_box()
    at = lambda x, y: (box["x"] + x * box["width"], box["y"] + y * box["height"])  # noqa: E731
    page.mouse.move(*at(0.25, 0.25))
    page.mouse.down()
    for k in range(6):
        page.mouse.move(*at(0.25 + 0.09 * k, 0.25 + 0.07 * k))
        wait(page, f"(page.panel.following.resultOf(state.run)?.trail.length ?? 0) > {k}")
    page.mouse.up()
    settle(page)
    assert page.evaluate("page.panel.following.resultOf(state.run).trail.length") >= 6
    others = page.evaluate(
        "runs.map((_, r) => page.panel.following.resultOf(r).trail.length)"
        ".filter((_, r) => r !== state.run)"
    )
    assert all(1 <= length <= 6 for length in others)


@needs_browser
def test_undo_and_clear(opened):
    page = opened()
    assert page.is_disabled("#undo") and page.is_disabled("#clear")
    assert page.is_visible("#hint") and not page.is_visible("#result")
    draw(page, SEVEN)
    settle(page)
    without = seen(page)
    draw(page, [BAR])
    settle(page)
    assert (seen(page) != without).any()
    page.click("#undo")
    settle(page)
    np.testing.assert_array_equal(seen(page), without)
    page.click("#clear")
    settle(page)
    assert page.evaluate("page.panel.following.image()") is None
    assert page.is_disabled("#clear") and page.is_visible("#hint")
    assert page.evaluate("runs.every((_, r) => page.panel.following.resultOf(r) === null)")
    page.click("#undo")  # what was cleared by mistake
    settle(page)
    np.testing.assert_array_equal(seen(page), without)
    page.keyboard.press("Control+z")
    settle(page)
    assert page.evaluate("page.panel.pad.isEmpty()") and page.is_disabled("#undo")


@needs_browser
def test_keyboard_alone(opened):
    page = opened()
    page.click("#look")
    assert not page.is_visible("#pad")
    page.keyboard.press("w")
    assert page.is_visible("#pad")
    while page.evaluate("document.activeElement.id") != "pad":
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("page.panel.pad.isEmpty()")  # the pen isn't down
    page.keyboard.press("Space")
    for key, times in (("ArrowUp", 8), ("ArrowRight", 10), ("ArrowDown", 16)):
        for _ in range(times):
            page.keyboard.press(key)
    page.keyboard.press("Space")
    page.keyboard.press("ArrowLeft")
    settle(page)
    assert not page.evaluate("state.playing")
    rows, columns = np.nonzero(seen(page))
    assert np.ptp(rows) + 1 == 20 and 10 < np.ptp(columns) < 20
    page.keyboard.press("u")
    assert page.evaluate("page.panel.pad.isEmpty()")
    page.keyboard.press("u")
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"run", "language", "canvas", "look", "draw", "pad", "small"} <= reached
    draw(page, SEVEN)
    settle(page)
    page.keyboard.press("x")
    assert page.evaluate("page.panel.pad.isEmpty()")


@needs_browser
def test_a_finger_on_a_phone(opened):
    page = opened(PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    draw(page, SEVEN, "finger")
    settle(page)
    assert page.is_visible("#result")
    rows, columns = np.nonzero(seen(page))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    plot, pad = (page.locator(each).bounding_box() for each in ("#canvas", "#pad"))
    assert pad["y"] + pad["height"] - plot["y"] <= PHONE["height"]  # both are seen at once
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@needs_browser
@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
@pytest.mark.parametrize(
    "size", [DESKTOP, PHONE, {"width": 844, "height": 390}, {"width": 820, "height": 1180}]
)
def test_everything_fits(opened, size, language):
    page = opened(size, has_touch=True, locale=language)
    draw(page, SEVEN)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    for control in page.locator(":is(button, #pad):visible").all():
        box = control.bounding_box()
        assert box["height"] >= 32 and box["x"] >= 0
        assert box["x"] + box["width"] <= size["width"]
    pad = page.locator("#pad").bounding_box()
    assert pad["width"] >= 190 and pad["width"] == pytest.approx(pad["height"], abs=1)
    assert page.evaluate("$('pad').width === $('pad').height")  # what is drawn isn't stretched
    if size == DESKTOP:  # nothing is below the fold
        assert page.evaluate("document.documentElement.scrollHeight") <= size["height"]


@needs_browser
def test_nothing_glides_where_motion_is_to_be_reduced(opened):
    page = opened(reduced_motion="reduce")
    draw(page, SEVEN)
    settle(page)
    page.locator(".small").nth(0).click()
    assert page.evaluate("change") is None
    page.locator(".small").nth(1).click()
    assert page.evaluate("change") is None


@needs_browser
def test_going_back_to_the_test_images(opened):
    page = opened()
    draw(page, SEVEN)
    settle(page)
    page.click("#neighbours button >> nth=0")
    held = page.evaluate("state.held")
    assert held == int(page.get_attribute("#neighbours button >> nth=0", "data-image"))
    page.click("#look")
    wait(page, "!dirty")
    assert page.is_visible("#slider") and not page.is_visible("#small")
    page.keyboard.press(",")
    page.click("#draw")  # the network is the finished run's
    assert page.evaluate("isFinished()") and page.is_visible("#result")


# ---- runs without a pad


@needs_browser
def test_runs_without_a_checkpoint(opened, trained, test_set, mnist_root, tmp_path):
    folder = tmp_path / "runs"
    without = write_run(folder / "without", 0.01, test_labels=test_set[1][:2000],
                        data={"root": mnist_root})  # fmt: skip
    shutil.copytree(runs_of(trained)[0].folder, folder / "with")
    figures.draw("page", folder, "paper", lambda _: None)
    page = opened(file=folder / "page.html")
    assert page.locator(".run[aria-checked=true]").inner_text().startswith("λ = 0.01")
    assert "no checkpoint.pt" in page.inner_text("#missing")
    draw(page, SEVEN)
    settle(page)
    assert not page.is_visible("#result")
    page.locator(".small").nth(0).click()
    settle(page)
    assert page.is_visible("#result") and not page.is_visible("#missing")
    shutil.rmtree(folder / "with")
    figures.draw("page", without.parent, "paper", lambda _: None)
    page = opened(file=folder / "page.html")
    assert "no checkpoint.pt" in page.inner_text("#missing") and not page.is_visible("#pad")
    page.click("#look")
    assert page.is_visible("#digits")


def test_a_checkpoint_that_is_damaged_or_of_another_run(trained, test_set, tmp_path):
    softmax, joint = runs_of(trained)
    copy = tmp_path / "copy"
    shutil.copytree(softmax.folder, copy)
    (one,) = runs_of(copy)
    own = load_features(copy)["test_features"]
    assert "layers" in weights.packed(one, test_set[0], own)
    shutil.copy(joint.folder / CHECKPOINT, copy / CHECKPOINT)
    assert weights.packed(one, test_set[0], own) == {"missing": "bad-checkpoint"}
    (copy / CHECKPOINT).write_bytes(b"no zip")
    assert weights.packed(one, test_set[0], own) == {"missing": "bad-checkpoint"}
    (copy / CHECKPOINT).unlink()
    assert weights.packed(one, test_set[0], own) == {"missing": "no-checkpoint"}


def test_another_network(trained, test_set, monkeypatch):
    """One that was added to the table, and not to the page."""
    (one, _), other = runs_of(trained), type("Other", (torch.nn.Module,), {})
    assert one.recipe.model.name == "lenetpp"
    monkeypatch.setitem(models.MODELS, "lenetpp", lambda **_: other())
    assert weights.packed(one, test_set[0], test_set[0]) == {"missing": "other-network"}


@needs_browser
@pytest.mark.parametrize("worker", [
    "function () { throw new Error('none here'); }",
    "function () { setTimeout(() => this.onerror()); this.postMessage = () => {}; }",
])  # fmt: skip
def test_a_browser_that_lets_the_page_have_no_worker(open_file, trained, worker):
    page = open_file(trained / "page.html")
    wait(page, "images.complete && !dirty")
    page.evaluate(f"() => {{ window.Worker = {worker}; }}")
    page.click("#draw")
    draw(page, SEVEN)
    settle(page)
    assert page.is_visible("#result")


# ---- words


def used_words(page: str, scripts: list[str]) -> set[str]:
    """The keys of words that a page's files name; ``missing-${…}`` is ``missing-*``."""
    html = web.markup(page)
    program = "\n".join((web.HERE / f"{name}.js").read_text() for name in scripts)
    keys = set(re.findall(r'data-(?:word|label|title)="([\w-]+)"', html))
    for call in re.findall(r"\bsay\(((?:[^()]|\([^()]*\))*)\)", program):
        first = call.split(", {")[0]
        keys |= set(re.findall(r'"([\w-]+)"', first))
        keys |= {each.replace("${missing}", "*") for each in re.findall(r"`([^`]+)`", first)}
    return keys


def test_all_words_are_there_in_both_languages():
    words = json.loads((web.HERE / "page.json").read_text())
    used = used_words("page", page_module.SCRIPTS)
    assert len(used) > 50
    missing = {key for key in words if key.startswith("missing-")}
    reasons = ("no-checkpoint", "bad-checkpoint", "other-network")
    assert missing == {f"missing-{why}" for why in reasons}
    assert used - {"missing-*"} == set(words) - missing
    for key, texts in words.items():
        assert set(texts) == {"en", "zh"} and all(texts.values()), key
        values = [sorted(re.findall(r"\{(\w+)\}", text)) for text in texts.values()]
        assert set(values[0]) == set(values[1]) or key == "farther-than-all", key
        assert re.search("[\u4e00-\u9fff]", texts["zh"]), key
        assert not re.search("[\u4e00-\u9fff]", texts["en"]), key
    html = web.markup("page")
    body = re.sub(r"<(style|script)>.*?</\1>", "", html[html.index("<body>") :], flags=re.S)
    texts = re.sub(r"<dt>[^<]*</dt>|<[^>]+>|[\s+−‹›⤢]", "", body)
    assert texts == ""  # no words but those


@needs_browser
def test_the_language_is_the_browsers_until_another_is_chosen(opened):
    page = opened(locale="zh-TW")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.title() == page.inner_text("h1") == "Center loss：MNIST 测试集的二维特征"
    assert page.inner_text("#language") == "English"
    draw(page, SEVEN)
    settle(page)
    assert page.inner_text("#taken").startswith("识别为 ")
    page.click("#language")
    settle(page)
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.inner_text("#taken").startswith("Taken for ")
    assert "LeNet++, softmax loss" in page.text_content("#caption")
    page.reload()
    wait(page, "images.complete && !dirty")
    assert page.inner_text("#language") == "中文"  # remembered
    assert opened(locale="fr-FR").inner_text("#language") == "中文"


def test_the_policy_is_strict():
    """Nothing may be loaded; a worker may be made of the page's own text."""
    html = web.markup("page")
    policy = re.search(r'Content-Security-Policy"\s+content="([^"]+)"', html)[1]
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
        "worker-src blob:"
    )
    assert str(ROOT) not in html
