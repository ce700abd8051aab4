import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_inference.errors import RuntimeConfigError, SettingsError
from aiops_inference.monitor import Monitor
from aiops_inference.settings import FetchSettings, RuntimeFile, RuntimeSettings, Settings, ShadowSettings

FULL = b"""
drift:
  zScoreThreshold: 4.5
  features: [{name: petal length (cm), zScoreThreshold: 3}]
  expectations: {mode: disabled}
  webhook: {cooldown: 60}
"""


def test_what_the_pod_s_page_judges_by_is_in_the_file():
    """The rows and the run length that the resource asks for; where the file says nothing, what a resource asks for."""
    content = b"drift: {minSamples: 80, averageRunLength: 20000, falseAlarmInterval: 0}"
    asked, defaults = RuntimeSettings.parse(content), RuntimeSettings.parse(b"")
    assert (80, 20000.0, 0.0) == (asked.min_samples, asked.average_run_length, asked.false_alarm_interval)
    assert (50, None, 30 * 86400) == (
        defaults.min_samples,
        defaults.average_run_length,
        defaults.false_alarm_interval,
    )


@pytest.mark.parametrize(("webhook", "muted"), [("{muted: true}", True), ("{muted: false}", False), ("{}", False)])
def test_webhooks_are_muted_where_the_file_says_so(webhook, muted):
    """Nothing but true mutes: what is not understood is told rather than kept back."""
    assert muted is RuntimeSettings.parse(f"drift: {{webhook: {webhook}}}".encode()).webhook_muted


def test_an_empty_environment_gives_the_documented_defaults():
    """The image on its own needs no variable."""
    settings = Settings.from_environment({})
    assert Path("/models/model.pkl") == settings.model_path
    assert Path("/models/baseline.npy") == settings.baseline_path
    assert Path("/models/expectations.json") == settings.expectations_path
    assert Path("/etc/aiops/runtime.yaml") == settings.runtime_config
    assert Path("/tmp/aiops-drift/state.json") == settings.drift_state  # noqa: S108 - the default
    assert ("", "", None) == (settings.webhook, settings.model_sha256, settings.drift_threshold)
    assert ("0.0.0.0", 8000, "INFO") == (settings.host, settings.port, settings.log_level)  # noqa: S104 - the default
    assert (1, 3) == (settings.workers, Settings.from_environment({"WORKERS": "3"}).workers)
    assert (8 << 20, 10_000, 2 << 30) == (settings.max_body_bytes, settings.max_rows, settings.max_model_bytes)


def test_the_drift_state_can_be_elsewhere_or_off():
    """A path, or the word."""
    states = [Settings.from_environment({"DRIFT_STATE": value}).drift_state for value in ("/var/counts", "off", " OFF")]
    assert [Path("/var/counts"), None, None] == states


def test_an_empty_variable_counts_as_unset():
    """Templates that leave a value empty mean the default."""
    assert Settings.from_environment({}) == Settings.from_environment(
        {"MODEL_PATH": "", "PORT": " ", "REQUIRE_WEBHOOK": ""}
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "http", "PORT is 'http'; it must be a whole number from 1 to 65535"),
        ("PORT", "70000", "PORT is '70000'"),
        ("WORKERS", "0", "WORKERS is '0'; it must be a whole number from 1 to 64"),
        ("WORKERS", "65", "WORKERS is '65'"),
        ("WORKERS", "auto", "WORKERS is 'auto'"),
        ("MAX_ROWS", "0", "MAX_ROWS is '0'; it must be a whole number, at least 1"),
        ("MAX_BODY_BYTES", "8MiB", "MAX_BODY_BYTES is '8MiB'"),
        ("LOG_LEVEL", "chatty", "LOG_LEVEL is 'chatty'; it must be one of DEBUG, INFO, WARNING, ERROR"),
        ("LOG_PREDICTIONS", "2", "LOG_PREDICTIONS is '2'; it must be a number from 0 to 1"),
        ("DRIFT_THRESHOLD", "0", "DRIFT_THRESHOLD is '0'; it must be a number of standard deviations above 0"),
        ("DRIFT_THRESHOLD", "nan", "DRIFT_THRESHOLD is 'nan'"),
        ("MODEL_SHA256", "abc", "MODEL_SHA256 is 'abc'; it must be 64 hexadecimal digits"),
        ("REQUIRE_WEBHOOK", "maybe", "REQUIRE_WEBHOOK is 'maybe'; it must be true or false"),
        ("REQUIRE_WEBHOOK", "true", "REQUIRE_WEBHOOK is true, but DRIFT_WEBHOOK is empty"),
        ("DRIFT_WEBHOOK", "slack.example/T0KEN", "DRIFT_WEBHOOK must be an http:// or https:// URL"),
        ("DRIFT_WEBHOOK", "http://[", "DRIFT_WEBHOOK must be an http:// or https:// URL"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(name, value, sentence):
    """The sentence says what the variable is and what it should be."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({name: value})
    assert str(caught.value).startswith(sentence)
    assert "T0KEN" not in str(caught.value)


def test_the_webhook_is_not_shown():
    """Its URL often is a password."""
    settings = Settings.from_environment({"DRIFT_WEBHOOK": "https://hooks.example/T0KEN", "REQUIRE_WEBHOOK": "True"})
    assert "https://hooks.example/T0KEN" == settings.webhook
    assert "T0KEN" not in repr(settings)


def test_the_file_is_read_whole():
    """All that an operator writes has its place."""
    wanted = RuntimeSettings(4.5, {"petal length (cm)": 3.0}, "disabled", 60.0)
    assert wanted == RuntimeSettings.parse(FULL)


@pytest.mark.parametrize("content", [b"", b"drift:", b"drift: {}", b"other: {a: 1}", b"drift: {newer: [1]}"])
def test_what_the_file_leaves_out_has_its_default(content):
    """And what it has too much is left to newer versions."""
    assert RuntimeSettings(5.0, {}, "auto", 300.0) == RuntimeSettings.parse(content)


def test_the_environment_wins_over_the_file():
    """The seed's variables hold, whatever an operator mounts; single features keep their own."""
    wanted = RuntimeSettings(7.0, {"petal length (cm)": 3.0}, "disabled", 60.0)
    assert wanted == RuntimeSettings.parse(FULL, drift_threshold=7.0)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "it is not YAML"),
        (b"\x00", "it is not YAML"),
        (b"- 1", "the file is not a mapping"),
        (b"drift: 5", "drift is not a mapping"),
        (b"drift: {zScoreThreshold: five}", "drift.zScoreThreshold is 'five'; it must be a number above 0"),
        (b"drift: {zScoreThreshold: -1}", "drift.zScoreThreshold is -1"),
        (b"drift: {zScoreThreshold: .nan}", "drift.zScoreThreshold is nan"),
        (b"drift: {zScoreThreshold: true}", "drift.zScoreThreshold is True"),
        (b"drift: {features: {a: 1}}", "drift.features is not a list"),
        (b"drift: {features: [{zScoreThreshold: 1}]}", "drift.features[0].name is None"),
        (b"drift: {features: [{name: a}]}", "drift.features[0].zScoreThreshold is None"),
        (b"drift: {expectations: {mode: maybe}}", "drift.expectations.mode is 'maybe'; it must be auto or disabled"),
        (b"drift: {webhook: {cooldown: 5m}}", "drift.webhook.cooldown is '5m'"),
        (b"drift: {minSamples: 0}", "drift.minSamples is 0"),
        (b"drift: {minSamples: .5}", "drift.minSamples is 0.5; it must be a number of rows"),
        (b"drift: {averageRunLength: 1.0e+300}", "drift.averageRunLength is 1e+300; it must be a number of rows"),
        (b"drift: {falseAlarmInterval: -1}", "drift.falseAlarmInterval is -1"),
        (b"drift: {webhook: {cooldown: false}}", "drift.webhook.cooldown is False"),
        (b"shadow: http://10.96.3.4", "shadow is not a mapping"),
        (b"shadow: {}", "shadow.url is None; it must be http:// with a host and perhaps a port, and nothing else"),
        (b"shadow: {url: 'https://a', revision: r}", "shadow.url is 'https://a'; it must be http://"),
        (b"shadow: {url: 'http://a/predict', revision: r}", "shadow.url is 'http://a/predict'"),
        (b"shadow: {url: 'http://a?b', revision: r}", "shadow.url is 'http://a?b'"),
        (b"shadow: {url: 'http://user@a', revision: r}", "shadow.url is 'http://user@a'"),
        (b"shadow: {url: 'http://:80', revision: r}", "shadow.url is 'http://:80'"),
        (b"shadow: {url: 'http://a:0', revision: r}", "shadow.url is 'http://a:0'"),
        (b"shadow: {url: 'http://a:65536', revision: r}", "shadow.url is 'http://a:65536'"),
        (b"shadow: {url: 'http://[a', revision: r}", "shadow.url is 'http://[a'"),
        (b"shadow: {url: 'http://[:::]', revision: r}", "shadow.url is 'http://[:::]'"),
        (b'shadow: {url: "http://a\\n", revision: r}', "shadow.url is 'http://a\\n'"),
        (b"shadow: {url: 'http://a'}", "shadow.revision is None; it must be a text of at most 64 characters"),
        (b"shadow: {url: 'http://a', revision: 123}", "shadow.revision is 123"),
        (b"shadow: {url: 'http://a', revision: ''}", "shadow.revision is ''"),
        (b"shadow: {url: 'http://a', revision: " + b"r" * 65 + b"}", "shadow.revision is 'rrr"),
        (b"shadow: {url: 'http://a', revision: r, percent: 0}", "shadow.percent is 0; it must be a whole number from"),
        (b"shadow: {url: 'http://a', revision: r, percent: 101}", "shadow.percent is 101"),
        (b"shadow: {url: 'http://a', revision: r, percent: 1.5}", "shadow.percent is 1.5"),
        (b"shadow: {url: 'http://a', revision: r, percent: true}", "shadow.percent is True"),
        (b"#" * 2_000_000, "it has 2000000 bytes"),
        (b"drift: {expectations: {mode: [auto]}}", "drift.expectations.mode is ['auto']; it must be auto or disabled"),
        (b"drift: {zScoreThreshold: 1" + b"0" * 400 + b"}", "drift.zScoreThreshold is 1000"),
        (b"drift: {zScoreThreshold: 0x" + b"f" * 5000 + b"}", "it cannot be understood: ValueError"),
        (b'a: !!timestamp "abc"', "it is not YAML: AttributeError"),
        (b'a: !!bool "foo"', "it is not YAML: KeyError"),
        (b'a: !!int ""', "it is not YAML: IndexError"),
    ],
)
def test_a_broken_file_says_where(content, sentence):
    """Every complaint names the field."""
    with pytest.raises(RuntimeConfigError) as caught:
        RuntimeSettings.parse(content)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "shadow"),
    [
        ("", None),
        ("shadow:", None),
        ("shadow: {url: 'http://10.96.3.4:80', revision: 0a, newer: 1}", ShadowSettings("http://10.96.3.4:80", "0a")),
        ("shadow: {url: 'http://iris-shadow.ml', revision: 0a, percent: 5}", ("http://iris-shadow.ml", "0a", 0.05)),
        ("shadow: {url: 'http://[fd00::1]:8000', revision: '01', percent: 100}", ("http://[fd00::1]:8000", "01", 1.0)),
    ],
)
def test_a_second_model_is_in_the_file(content, shadow):
    """Where it answers, which it is, and the share of requests that are copied: all of them where the file does not say."""
    wanted = ShadowSettings(*shadow) if isinstance(shadow, tuple) else shadow
    assert RuntimeSettings(shadow=wanted) == RuntimeSettings.parse(content.encode())


@given(st.binary() | st.text().map(str.encode))
def test_no_content_raises_anything_else(content):
    """Whatever is in the file, it is settings or a complaint."""
    with contextlib.suppress(RuntimeConfigError):
        assert RuntimeSettings.parse(content).z_score > 0


def test_a_file_is_followed_and_a_broken_one_changes_nothing(tmp_path):
    """Absent, good, the same, broken, gone, good again: the last good settings hold throughout."""
    path = tmp_path / "runtime.yaml"
    file = RuntimeFile(path)
    seen = [(file.refresh(), file.current.z_score)]
    for content in (
        b"drift: {zScoreThreshold: 4}",
        b"drift: {zScoreThreshold: 4}",
        b"drift: {zScoreThreshold: 4} # same",
    ):
        path.write_bytes(content)
        seen.append((file.refresh(), file.current.z_score))
    path.write_bytes(b"drift: {zScoreThreshold: none}")
    with pytest.raises(RuntimeConfigError, match="the last good settings stay"):
        file.refresh()
    seen.append((file.refresh(), file.current.z_score))  # told once
    path.unlink()
    seen.append((file.refresh(), file.current.z_score))
    path.write_bytes(b"drift: {zScoreThreshold: 3}")
    seen.append((file.refresh(), file.current.z_score))
    assert [(False, 5), (True, 4), (False, 4), (False, 4), (False, 4), (False, 4), (True, 3)] == seen


def test_a_value_of_aliases_is_not_written_out():
    """A kilobyte of YAML may stand for more text than there is memory."""
    bomb = "".join(
        f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]\n" for below, name in itertools.pairwise("abcdefghijkl")
    )
    with pytest.raises(RuntimeConfigError) as caught:
        RuntimeSettings.parse(f"a: &a [1]\n{bomb}drift: {{zScoreThreshold: *l}}".encode())
    assert len(str(caught.value)) < 1_000_000


def test_a_file_that_was_never_good_leaves_the_defaults(tmp_path):
    """And the complaint says so."""
    path = tmp_path / "runtime.yaml"
    path.write_text('drift: {zScoreThreshold: !!int ""}')
    file = RuntimeFile(path)
    with pytest.raises(RuntimeConfigError, match="is refused, the defaults are used: it is not YAML"):
        file.refresh()
    assert RuntimeSettings() == file.current


def test_a_file_that_cannot_be_read_is_a_complaint(tmp_path):
    """A directory in its place, for one."""
    with pytest.raises(RuntimeConfigError, match="cannot be read"):
        RuntimeFile(tmp_path).refresh()


def test_changed_thresholds_act_without_a_restart(serving, directory, monkeypatch, eventually):
    """The same rows are drift under a lower threshold, and a broken file keeps it so."""
    monkeypatch.setattr("aiops_inference.service.RUNTIME_INTERVAL", 0.01)
    body = {"inputs": [[5.1, 3.5, 1.4, 0.2]]}

    async def scenario():
        async with serving(directory.write()) as pod:
            before = (await pod.predict(body)).json()
            directory.settings.runtime_config.write_text(
                "drift: {features: [{name: petal length (cm), zScoreThreshold: 1}, {name: x, zScoreThreshold: 1}]}"
            )
            await eventually(lambda: any("no features named x" in line for line in pod.lines()))
            lowered = (await pod.predict(body)).json()
            directory.settings.runtime_config.write_text("drift: [")
            await eventually(lambda: any("the last good settings stay" in line for line in pod.lines()))
            broken = (await pod.predict(body)).json()
            return before, lowered, broken

    before, lowered, broken = asyncio.run(scenario())
    assert [False, True, True] == [answer["drift_detected"] for answer in (before, lowered, broken)]
    assert before["drift_score"] == lowered["drift_score"]


@pytest.mark.parametrize(
    "content",
    [
        "drift: {expectations: {mode: [auto]}}",
        'drift: !!timestamp "abc"',
        'drift: !!bool "foo"',
        'drift: !!int ""',
        "drift: {zScoreThreshold: 1" + "0" * 400 + "}",
    ],
)
def test_a_file_that_is_broken_from_the_start_is_followed_until_it_is_good(
    serving, directory, monkeypatch, eventually, content
):
    """The pod serves with the defaults, says so, and takes the mended file."""
    monkeypatch.setattr("aiops_inference.service.RUNTIME_INTERVAL", 0.01)
    body = {"inputs": [[5.1, 3.5, 1.4, 0.2]]}
    path = directory.settings.runtime_config
    path.write_text(content)

    async def scenario():
        async with serving(directory.write()) as pod:
            broken = (await pod.predict(body)).json()
            complaints = [line for line in pod.lines() if "the defaults are used" in line]
            path.write_text("drift: {zScoreThreshold: 0.5}")
            await eventually(lambda: any('"z_score": 0.5' in line or '"z_score":0.5' in line for line in pod.lines()))
            mended = (await pod.predict(body)).json()
            return complaints, broken, mended

    complaints, broken, mended = asyncio.run(scenario())
    assert 1 == len(complaints)
    assert [False, True] == [answer["drift_detected"] for answer in (broken, mended)]


def test_settings_that_cannot_be_applied_are_not_the_last_ones_looked_at(serving, directory, monkeypatch, eventually):
    """Whatever goes wrong is a line in the log, and the next content has its turn."""
    monkeypatch.setattr("aiops_inference.service.RUNTIME_INTERVAL", 0.01)
    path = directory.settings.runtime_config
    apply = Monitor.apply

    def breaks(monitor, settings):
        if settings.z_score == 4:
            message = "four"
            raise KeyError(message)
        return apply(monitor, settings)

    monkeypatch.setattr(Monitor, "apply", breaks)

    async def scenario():
        async with serving(directory.write()) as pod:
            path.write_text("drift: {zScoreThreshold: 4}")
            await eventually(lambda: any("they cannot be applied: KeyError: 'four'" in line for line in pod.lines()))
            path.write_text("drift: {zScoreThreshold: 0.5}")
            await eventually(lambda: any('"z_score": 0.5' in line or '"z_score":0.5' in line for line in pod.lines()))
            return (await pod.predict({"inputs": [[5.1, 3.5, 1.4, 0.2]]})).json()

    assert asyncio.run(scenario())["drift_detected"]


@pytest.mark.parametrize("secret", ["hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", "whsec_" + "QUFB" * 40])
def test_a_malformed_signing_secret_is_refused_without_repeating_it(secret):
    """The variable is named, its value is not."""
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({"DRIFT_WEBHOOK_SECRET": secret})
    assert str(error.value).startswith("DRIFT_WEBHOOK_SECRET: ")
    assert (secret.removeprefix("whsec_") or "the key") not in str(error.value)


def test_a_signing_secret_is_read():
    """As Standard Webhooks writes it; it is in no representation."""
    settings = Settings.from_environment({"DRIFT_WEBHOOK_SECRET": "whsec_" + "QUFB" * 8})
    assert b"AAA" * 8 == settings.webhook_secret
    assert "AAA" not in repr(settings)


def test_what_is_fetched_goes_to_where_the_server_looks():
    """By the same variables, with the same defaults."""
    fetching = FetchSettings.from_environment({"ARTIFACTS_URI": "s3://models/iris/v3"})
    serving = Settings.from_environment({})
    names = ("model_path", "baseline_path", "expectations_path", "model_sha256", "max_model_bytes", "log_level")
    assert [getattr(serving, name) for name in names] == [getattr(fetching, name) for name in names]
    assert "s3://models/iris/v3" == fetching.uri


@pytest.mark.parametrize(
    "uri",
    [
        "s3://models",
        "gs://models/iris",
        "az://models/iris",
        "abfs://models@account.dfs.core.windows.net/iris",
        "abfss://models@account.dfs.core.windows.net/iris",
        "https://models.example.com:8443/iris/v3",
    ],
)
def test_a_uri_of_a_known_scheme_is_taken(uri):
    """As it stands."""
    assert uri == FetchSettings.from_environment({"ARTIFACTS_URI": uri}).uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "models",
        "http://models.example.com",
        "file:///etc",
        "s3://",
        "s3:///models",
        "https://user:hidden@models.example.com",
        "s3://hidden@models",
        "https://models.example.com/iris?signature=hidden",
        "https://models.example.com/iris#hidden",
        "https://[models",
        "s3://models/\x07hidden",
        "s3://mod\u00e9ls",
    ],
)
def test_a_uri_that_cannot_be_used_is_not_repeated(uri):
    """It may hold what nobody should read."""
    with pytest.raises(SettingsError, match="ARTIFACTS_URI must be a URI of s3, gs") as caught:
        FetchSettings.from_environment({"ARTIFACTS_URI": uri})
    assert "hidden" not in str(caught.value)
