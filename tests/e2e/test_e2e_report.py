import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from serverprocess import Pod
from waiting import until

from aiops_drift import Profile
from aiops_localcluster import packages
from aiops_localcluster.progress import Lines

BROWSER = {"chromium": "chromium", "chromedriver": "chromium-driver"}
HOSTILE = """<script>document.title = "taken"</script>'"&amp;<b>""" + "x" * 150
NETWORK = frozenset({"http", "https", "ws", "wss"})
WIDE, NARROW = (1280, 900), (400, 800)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The iris model with a feature whose name means harm; the same rows and the same model otherwise."""
    path = tmp_path_factory.mktemp("report") / "models"
    subprocess.run([sys.executable, "-m", "aiops_training", "--output", str(path)], check=True, capture_output=True)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["features"][0] = manifest["profile"]["features"][0]["name"] = HOSTILE
    assert HOSTILE == Profile.from_dict(manifest["profile"]).names[0]
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "expectations.json").unlink()
    return path


@dataclass(frozen=True)
class Server:
    """A server process that serves the model, and rows like those it was trained on."""

    url: str
    healthy: np.ndarray

    def predict(self, rows):
        """Have rows answered, 25 at a time."""
        for start in range(0, len(rows), 25):
            body = {"inputs": rows[start : start + 25].tolist()}
            httpx.post(f"{self.url}/predict", json=body, timeout=20).raise_for_status()


@contextlib.contextmanager
def served(artifacts, folder):
    """A server process on a free port, its log in a folder."""
    pod = Pod(artifacts, folder / "log", {"SERVICE_NAME": "iris"})
    try:
        pod.ready()
        rows = np.load(artifacts / "baseline.npy")
        yield Server(str(pod.client.base_url), np.random.default_rng(5).permutation(np.vstack([rows, rows])))
    finally:
        pod.client.close()
        pod.process.kill()
        pod.process.wait()


@pytest.fixture
def server(artifacts, tmp_path):
    """A pod that nobody has asked anything."""
    with served(artifacts, tmp_path) as pod:
        yield pod


@pytest.fixture(scope="module")
def calm(artifacts, tmp_path_factory):
    """A pod that has seen healthy rows."""
    with served(artifacts, tmp_path_factory.mktemp("calm")) as pod:
        pod.predict(pod.healthy)
        yield pod


@pytest.fixture(scope="module")
def chromium():
    """Where Debian's browser and its driver are, installed where they are missing."""
    packages.ensure(BROWSER, Lines())
    return {program: str(packages.which(program)) for program in BROWSER}


@pytest.fixture(scope="module")
def started(chromium, tmp_path_factory):
    """A fresh browser that keeps what its console and its network say."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium["chromium"]
    for argument in (
        "--headless",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=chromium["chromedriver"])
    with webdriver.Chrome(options=options, service=service) as driver:
        yield Browser(driver)


@pytest.fixture
def browser(started):
    """The browser, which has forgotten what it was told of other tests' pages."""
    started.driver.get("about:blank")
    started.complaints()
    started.hosts()
    return started


@dataclass(frozen=True)
class Browser:
    """What a person does and sees."""

    driver: webdriver.Chrome

    def open(self, url, size=WIDE, scheme="light"):
        """Look at a page in a window of a size, where pages shall be light or dark."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(url)

    @property
    def text(self):
        """What is written, with single spaces."""
        return " ".join(self.one("body").text.split())

    def one(self, selector):
        """The element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        """All such elements."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def seen(self, condition):
        """Wait until a condition holds."""
        return WebDriverWait(self.driver, 30).until(lambda _: condition())

    def wider_than_window(self):
        """By how many pixels one has to scroll sideways."""
        return self.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )

    def complaints(self):
        """What the console says, since last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def hosts(self):
        """Whom it has asked for anything, since last asked; what the browser's own pages are made of comes from itself."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc for url in asked if urlsplit(url).scheme in NETWORK}


def report(browser, server, says, **how):
    """The page, when it says so: one that was made just now is given again for a second."""

    def look():
        browser.open(f"{server.url}/drift/report", **how)
        return browser.text

    return until(look, lambda text: says in text, every=0.3)


def test_a_person_sees_drift_come(server, browser):
    """No rows, then no drift, then drift with its feature; all drawn, nothing loaded from elsewhere, no complaint."""
    assert "? No rows yet" in report(browser, server, "No rows yet")
    server.predict(server.healthy)
    assert "✓ No drift: the last 256 rows look like" in report(browser, server, "✓ No drift")
    assert [] == browser.all(".card.bad")

    broken = server.healthy.copy()
    broken[:, 2] *= 10
    server.predict(broken)
    text = report(browser, server, "▲ Drift")
    assert "Furthest off is petal length (cm), with a score of" in text
    assert "This is one pod" in text
    assert "kubectl get inferenceservices iris" in text
    assert "petal length (cm)" == browser.one(".card.bad h3").text
    assert "▲ Beyond threshold" == browser.one(".card.bad .chip").text
    assert "Drift · iris" == browser.driver.title

    drawn = [element.size for element in browser.all("svg")]
    assert 1 + 5 + 4 == len(drawn)  # the time line, the bins of inputs and prediction, the means of inputs
    assert all(size["width"] > 100 and size["height"] > 30 for size in drawn)
    assert all(element.rect["height"] > 0 for element in browser.all(".timeline .score, .timeline .shade"))
    assert {urlsplit(server.url).netloc} == browser.hosts()
    assert [] == browser.complaints()


def test_a_hostile_name_is_only_read(calm, browser):
    """It stands in its card as it is, and the browser makes nothing of it."""
    report(browser, calm, "✓ No drift")
    assert "No drift · iris" == browser.driver.title
    assert HOSTILE[:100] in " ".join(heading.text for heading in browser.all(".card h3"))
    assert [] == browser.all("script, .card b")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_page_fits_its_window(calm, browser, size, scheme):
    """Nobody scrolls sideways, and letters are lighter than the ground in the dark and darker in the light."""
    report(browser, calm, "✓ No drift", size=size, scheme=scheme)
    assert 0 == browser.wider_than_window()
    assert size[0] == browser.driver.execute_script("return innerWidth")
    ground, ink = (brightness(browser.one("body").value_of_css_property(of)) for of in ("background-color", "color"))
    assert (scheme == "light") == (ground > ink)
    assert abs(ground - ink) > 150
    assert all(tick.rect["width"] > 0 for tick in browser.all(".line .level"))


def brightness(color):
    """Of `rgba(r, g, b, a)`, 0 to 255."""
    return sum(map(int, color.split("(")[1].split(",")[:3])) / 3


def test_the_documentation_works_without_the_internet(calm, browser):
    """All that /docs needs comes from the pod, and what it offers to try is answered as it stands there."""
    browser.open(f"{calm.url}/docs")
    browser.seen(lambda: browser.all("#operations-Predict-predict"))
    assert {"Predict", "V1", "V2", "Drift", "Operations"} == {tag.text.split("\n")[0] for tag in browser.all("h3 a")}
    for operation in ("Predict-predict", "V1-v1_predict", "V2-v2_infer"):
        browser.one(f"#operations-{operation} button.opblock-summary-control").click()
        browser.seen(lambda name=operation: browser.all(f"#operations-{name} button.execute"))[0].click()
        answered = f"#operations-{operation} .live-responses-table .response-col_status"
        assert "200" == browser.seen(lambda where=answered: browser.all(where))[-1].text.split("\n")[0]
    assert {urlsplit(calm.url).netloc} == browser.hosts()
    assert [] == browser.complaints()
