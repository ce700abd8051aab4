import asyncio
import html.parser
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiops_drift import Expectations, Profile, Recorder
from aiops_drift.profile import is_name
from aiops_inference import charts
from aiops_inference.page import LONGEST_NAME, MOST_CARDS, render
from aiops_inference.settings import RuntimeSettings
from aiops_inference.story import tell

NOW = 1_700_000_000.0
CALM = Expectations("passed", 50, 1)


def rows(count, columns=2, shift=0.0):
    """Normal rows, the first column shifted by so many deviations."""
    values = np.random.default_rng(7).normal(size=(count, columns))
    values[:, 0] += shift
    return values


def told(parts, names=("a", "b"), expectations=CALM, asked=RuntimeSettings()):  # noqa: B008 - frozen
    """The story of blocks of rows that came one a minute; the baseline is normal, too."""
    baseline = np.random.default_rng(3).normal(size=(400, len(names)))
    profile = Profile.from_rows(baseline, names)
    recorder, now = Recorder(profile, "i"), NOW
    for part in parts:
        for start in range(0, len(part), 16):
            now += 60
            recorder.record(part[start : start + 16], now)
    return tell(profile, recorder.report("sha256:m", expectations, -1, now + 5), asked)


class Parsed(html.parser.HTMLParser):
    """Elements and texts of a document, which must be well nested."""

    VOID = frozenset({"meta", "rect", "line", "polyline", "polygon"})

    def __init__(self, document):
        super().__init__()
        self.tags, self.text, self.attributes, self.open = [], [], [], []
        self.feed(document)
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag, attrs):
        """Go in."""
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """An element without content."""
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        """Go out of the element that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data):
        """Keep the text."""
        self.text.append(data)

    @property
    def words(self):
        """All text, with single spaces."""
        return " ".join(" ".join(self.text).split())


def shown(story):
    """The page of a story, parsed."""
    return Parsed(render(story, "iris", "iris-1"))


def test_a_calm_pod_says_so():
    """In words, with the score that is closest to its threshold."""
    words = shown(told([rows(512)])).words
    assert "✓ No drift: the last 256 rows look like those the model was trained on." in words
    assert "Last drift ended none seen" in words
    assert "▲" not in words


def test_drift_is_told_with_its_feature_and_since_when():
    """The worst feature comes first, and the time is that of the block which gave it away."""
    story = told([rows(320), rows(160, shift=30.0)])
    page = shown(story)
    assert "▲ Drift: the rows that this pod gets do not look like those the model was trained on." in page.words
    assert f"Since {charts.moment(story.episode.since)}" in page.words
    assert ("a", True) == (story.columns[0].name, story.columns[0].ratio > 1)
    assert NOW + 60 * 20 < story.episode.since <= NOW + 60 * 25
    assert "goes on" in page.words


def test_drift_that_is_over_has_an_end():
    """The time line has its period, and the verdict is calm again."""
    story = told([rows(320), rows(160, shift=30.0), rows(640)])
    assert (False, None, 1) == (story.drifted, story.episode, len(story.episodes))
    assert NOW + 60 * 30 < story.episodes[0].until <= NOW + 60 * 55
    assert f"Last drift ended {charts.moment(story.episodes[0].until)}" in shown(story).words


@given(st.lists(st.sampled_from([0.0, 30.0]), min_size=1, max_size=60))
@settings(max_examples=25)
def test_looking_now_and_then_finds_the_same_verdict(shifts):
    """As the rules, stepped through all blocks, do; episodes do not overlap, and the last goes on where drift is on."""
    story = told([rows(16, shift=shift) for shift in shifts])
    times = [time for episode in story.episodes for time in (episode.since, episode.until)]
    assert (story.episode is not None) == bool(story.verdict.drifting)
    assert sorted(times[: -1 if story.episode else None]) == times[: -1 if story.episode else None]
    assert story.moments[-1].ratio == story.verdict.score / story.verdict.threshold


def test_failed_expectations_are_drift_and_are_named():
    """As in the resource, though no score is above its threshold."""
    failed = Expectations("failed", 50, 2, ("expect_column_values_to_be_between(<b>)",))
    story = told([rows(512)], expectations=failed)
    words = shown(story).words
    assert story.drifted
    assert "▲ Drift: the data is not what Great Expectations was told to expect." in words
    assert "expect_column_values_to_be_between(<b>)" in words


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (0, "? No rows yet: this pod has answered no prediction."),
        (5, "? Too few rows to say: 0 of 50."),
        (32, "32 of 50."),
    ],
)
def test_too_few_rows_are_no_verdict(count, says):
    """A page all the same, with the baseline."""
    page = shown(told([rows(count)]))
    assert says in page.words
    assert 2 == page.tags.count("article")


def test_the_run_length_and_where_it_comes_from_are_told():
    """As asked for in rows, or in time."""
    in_rows = told([rows(512)], asked=RuntimeSettings(average_run_length=20_000))
    assert "20,000 rows without drift between two false alarms, on average, as asked for" in shown(in_rows).words
    in_time = shown(told([rows(512)], asked=RuntimeSettings(false_alarm_interval=86400))).words
    assert "16,384 rows without drift between two false alarms, on average: one in 1 d, at this pod's" in in_time
    none = shown(told([rows(512)], asked=RuntimeSettings(false_alarm_interval=0))).words
    assert "none asked for: only the mean is watched" in none


@pytest.mark.parametrize(
    ("run_length", "says"), [(10_000, "Calibration simulated"), (10**7, "Calibration extrapolated")]
)
def test_a_calibration_says_whether_it_was_simulated(run_length, says):
    """The threshold of the sequential rule is shown beside it."""
    baseline = np.random.default_rng(3).normal(size=(400, 1))
    profile = Profile.from_rows(baseline, ["a"]).calibrated(baseline)
    report = Recorder(profile, "i").report("sha256:m", CALM, -1, NOW)
    story = tell(profile, report, RuntimeSettings(average_run_length=run_length))
    words = shown(story).words
    assert says in words
    assert f"Sequential threshold h {charts.number(story.sequential)}" in words


names = st.text(min_size=1, max_size=253).filter(is_name)


@given(st.lists(names, min_size=1, max_size=4, unique=True), st.text(max_size=50), st.text(max_size=300))
@settings(max_examples=40)
def test_whatever_things_are_called_is_text(called, service, message):
    """No name makes an element or an attribute that the page of plain names does not have."""
    parts = [rows(96, len(called)), rows(160, len(called), shift=30.0)]
    plain = [f"n{i}" for i in range(len(called))]

    def page(names, service, message):
        story = told(parts, names, Expectations("failed", 50, 1, tuple(names), message))
        return Parsed(render(story, service, service))

    hostile, harmless = page(called, service or "s", message or "m"), page(plain, "s", "m")
    assert harmless.tags == hostile.tags
    assert [name for name, _ in harmless.attributes] == [name for name, _ in hostile.attributes]


def test_markup_in_a_name_is_shown_as_it_is():
    """And not run."""
    document = render(told([rows(96)], ['<script>alert("1")</script>', "b"]), "iris", "iris-1")
    assert "<script" not in document
    assert '<script>alert("1")</script>' in Parsed(document).words


@pytest.mark.parametrize("columns", [MOST_CARDS, 400, 2048])
def test_the_page_of_many_features_is_bounded(columns):
    """The worst are drawn, the others are rows of a table; a name takes no more than its share."""
    called = [f"{i:04}" + '"' * 249 for i in range(columns)]
    document = render(told([rows(64, columns)], called), "iris", "iris-1")
    page = Parsed(document)
    assert (MOST_CARDS, columns - MOST_CARDS) == (page.tags.count("article"), document.count('<td class="name">'))
    assert len(document.encode()) < 2_500_000
    assert '"' * LONGEST_NAME not in page.words


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
)
@settings(max_examples=60)
def test_whatever_the_values_every_drawing_is_of_finite_numbers(baseline, live):
    """Constant, huge or tiny: coordinates are numbers, and nothing is drawn outside by dividing by nothing."""
    try:
        profile = Profile.from_rows(np.array(baseline)[:, None], ["a"])
    except ValueError:  # a baseline that cannot be used has no page
        return
    recorder = Recorder(profile, "i")
    recorder.record(np.resize(np.array(live), (64, 1)), NOW)
    document = render(tell(profile, recorder.report("sha256:m", CALM, -1, NOW + 1), RuntimeSettings()), "s", "p")
    drawn = re.findall(r'(?:points|x|y|width|height|[xy][12])="([^"]*)"', document)
    assert drawn
    assert not [value for value in drawn if re.search("nan|inf", value)]


def test_missing_and_unseen_values_are_told():
    """By the columns that have them."""
    values = rows(64)
    values[3, 0], values[:, 1] = np.nan, 5.0
    baseline = rows(100)
    baseline[:, 1] = 1.0
    profile = Profile.from_rows(baseline, ["a", "always one"])
    recorder = Recorder(profile, "i")
    recorder.record(values, NOW)
    words = shown(tell(profile, recorder.report("sha256:m", CALM, -1, NOW), RuntimeSettings())).words
    assert "Missing values in a." in words
    assert "Values that the baseline does not have in always one." in words
    assert "Missing 1 value of 64" in words
    assert "Unseen 64 values that the baseline does not have" in words


def test_outputs_are_drawn_by_the_names_of_their_classes():
    """And no mean is made of classes."""
    inputs = rows(300, 1)
    outputs = (inputs > 0).astype(float)
    profile = Profile.from_rows(inputs, ["a"], outputs)
    recorder = Recorder(profile, "i")
    recorder.record(inputs[:64], NOW, outputs[:64])
    report = recorder.report("sha256:m", CALM, -1, NOW)
    story = tell(profile, report, RuntimeSettings(), ("no", "yes"))
    assert [("no",), ("yes",)] == [(bin_.values,) for bin_ in story.columns[-1].bins]
    assert 1 == pytest.approx(sum(bin_.live for bin_ in story.columns[-1].bins))
    assert ("output", ()) == (story.columns[-1].kind, story.columns[-1].means)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.7580, "3.758"),
        (12345.6, "12,346"),
        (-0.5, "−0.5"),
        (1e9, "1e+09"),
        (0.00012, "0.00012"),
        (100, "100"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    """Four digits, without exponents where there is no need."""
    assert text == charts.number(value)


def test_numbers_side_by_side_can_be_told_apart():
    """With as many decimals as that takes, and no more."""
    assert ["1000.1", "1000.2", "1000.5"] == charts.numbers([1000.1, 1000.2, 1000.5])
    assert ["0", "1", "2"] == charts.numbers([0, 1, 2])


@given(st.floats(0, 4e9), st.floats(0.001, 4e8))
def test_a_time_axis_has_few_round_ticks(start, span):
    """At most six, in order, within the axis, no label twice on end."""
    ticks = charts.time_ticks(start, start + span)
    assert len(ticks) <= 6
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
    assert all(0 <= tick.at <= 100 for tick in ticks)
    assert len(ticks) == len({tick.label for tick in ticks})


def test_ticks_say_the_time_in_utc():
    """A midnight is the day."""
    day = 1_700_006_400.0  # 15 Nov 2023
    assert ["22:00", "23:00", "15 Nov", "01:00"] == [tick.label for tick in charts.time_ticks(day - 7500, day + 5400)]


def test_the_route_answers_a_page_that_loads_nothing(serving, directory):
    """As HTML that must not be kept, with a policy under which nothing but its own style is used."""

    async def scenario():
        async with serving(directory.write(), service_name="iris") as pod:
            await pod.predict({"inputs": directory.rows.tolist()})
            return await pod.client.get("/drift/report")

    answer = asyncio.run(scenario())
    assert (200, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    assert "no-store" == answer.headers["cache-control"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'unsafe-inline';")
    page = Parsed(answer.text)
    assert "Drift report of iris" in page.words
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not [value for name, value in page.attributes if name == "src" or (value and "://" in value)]


def test_without_a_model_there_is_no_page(serving, directory):
    """But the reason, as /drift gives it."""

    async def scenario():
        async with serving(directory.settings) as pod:
            return await pod.client.get("/drift/report"), await pod.client.get("/drift")

    page, counts = asyncio.run(scenario())
    assert (503, counts.json()) == (page.status_code, page.json())


def test_many_who_look_get_one_page(serving, directory):
    """One is made at a time, and given to all who asked meanwhile."""

    async def scenario():
        async with serving(directory.write()) as pod:
            return await asyncio.gather(*(pod.client.get("/drift/report") for _ in range(5)))

    assert 1 == len({answer.content for answer in asyncio.run(scenario())})
