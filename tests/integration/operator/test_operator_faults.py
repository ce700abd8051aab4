"""What goes wrong between the operator and the API server: afterwards all is as it should be, and nothing was told twice."""

import signal
import time

import pytest
from apiproxy import CUT, SILENT
from waiting import until

CHILDREN = ("ConfigMap", "Service", "Deployment")
WRITES = ("PATCH", "POST", "DELETE", "PUT")
SILENCE = 90  # seconds after which a watch that says nothing is taken up anew
LOOKED_AT = 60  # seconds within which what a watch has missed is found by listings
QUICK = {"cluster.WATCH_SILENCE": 2, "health.PROBE_INTERVAL": 1, "health.DEAD_AFTER": 10}  # seconds for 90, 20 and 150


def converged(api, name="iris"):
    """All children are there and the status speaks of them; every Event was told once."""
    api.settled(name)
    until(lambda: api.all("ConfigMap", f"aiops-quality.io/inferenceservice={name}"), lambda seen: len(seen) == 2, 30)
    until(lambda: api.get("Service", name), seconds=30)
    api.wait("Ready", "False", "RolloutInProgress", name, seconds=60)
    told = [
        (event["reason"], event["message"])
        for event in api.all("Event")
        if event["source"].get("component") == "aiops-operator" and event["involvedObject"]["name"] == name
    ]
    assert sorted(set(told)) == sorted(told)


@pytest.mark.parametrize("code", [409, 429, 500, 503, CUT])
def test_writes_that_are_refused_are_made_again(api, start, proxy, code):
    """Every second one is refused for a while, status and Events too."""
    count = 0

    def rule(method, _path, _watch):
        nonlocal count
        count += method in WRITES
        return code if method in WRITES and count % 2 and count < 20 else None

    proxy.rule = rule
    with start(api.namespace, through=proxy):
        api.serve()
        converged(api)


@pytest.mark.parametrize("code", [429, 500, CUT])
def test_reads_that_are_refused_are_made_again(api, start, proxy, code):
    """Listings, watches and single objects: every second one is refused for a while."""
    count = 0

    def rule(method, path, _watch):
        nonlocal count
        count += method == "GET" and api.namespace in path
        return code if method == "GET" and api.namespace in path and count % 2 and count < 30 else None

    with start(api.namespace, through=proxy):
        proxy.rule = rule
        proxy.cut_watches()
        api.serve()
        until(lambda: api.get("Deployment", "iris"), seconds=LOOKED_AT)
        converged(api)


def refused_once(proxy, method, end, harm):
    """After some harm, one request to a path that ends so is answered with 429 and asked to wait for 5 s; those from then on."""
    refused, proxy.retry_after = [], 5

    def rule(asked, path, _watch):
        if refused or asked != method or not path.endswith(end):
            return None
        refused.append(path)
        return 429

    proxy.rule = rule
    harm()
    until(lambda: [entry for entry in proxy.passed if entry.status == 429])
    return lambda: proxy.passed[[entry.status for entry in proxy.passed].index(429) :]


def test_the_pause_that_the_api_server_asks_for_is_made(api, start, proxy):
    """Nothing more is asked about a service until then, although there is cause; another is not kept waiting."""
    with start(api.namespace, through=proxy):
        passed = refused_once(proxy, "PATCH", "/inferenceservices/iris/status", api.serve)
        api.change({"replicas": 2})
        api.serve(name="another")
        until(lambda: api.get("Deployment", "iris")["spec"]["replicas"], lambda seen: seen == 2)
        converged(api)
        converged(api, "another")
        refused, *later = passed()
    after = {
        name: [entry.at - refused.at for entry in later if name in entry.path.split("/")]
        for name in ("iris", "another")
    }
    assert 5 <= min(after["iris"]) < 6
    assert min(after["another"]) < 5


def test_a_watch_makes_the_pause_that_the_api_server_asks_for(api, start, proxy):
    """The kind is not asked about until then, and what happened meanwhile is made up for."""
    with start(api.namespace, through=proxy):
        api.serve()
        converged(api)
        passed = refused_once(proxy, "GET", "/services", proxy.cut_watches)
        api.delete("Service", "iris")
        until(lambda: api.get("Service", "iris"), seconds=30)
        refused, again, *_ = [entry for entry in passed() if entry.path.endswith("/services")]
    assert 5 <= again.at - refused.at < 6


def test_watches_that_are_cut_are_taken_up_again(api, start, proxy):
    """What was deleted, edited and declared meanwhile is noticed."""
    with start(api.namespace, through=proxy):
        api.serve()
        converged(api)
        proxy.rule = lambda method, *_: CUT if method == "GET" else None
        proxy.cut_watches()
        api.delete("Service", "iris")
        api.patch("Deployment", "iris", {"spec": {"minReadySeconds": 7, "progressDeadlineSeconds": 77}})
        api.serve(name="another")
        proxy.rule = lambda *_: None
        until(lambda: api.get("Service", "iris"), seconds=30)
        until(lambda: api.get("Deployment", "iris"), lambda seen: seen["spec"]["progressDeadlineSeconds"] == 120, 30)
        converged(api)
        converged(api, "another")


def test_watches_that_expire_are_begun_anew(api, start, proxy):
    """410 Gone: a listing tells what was missed, deletions too."""
    with start(api.namespace, through=proxy) as operator:
        api.serve()
        converged(api)
        gone = set()

        def rule(method, path, watch):
            if watch and path not in gone and not path.endswith("/inferenceservices"):  # of which the next test tells
                gone.add(path)
                return 410
            return CUT if method == "GET" and not watch and path in gone and len(gone) < 3 else None

        proxy.rule = rule
        proxy.cut_watches()
        api.delete("Service", "iris")
        until(lambda: api.get("Service", "iris"), seconds=30)
        until(lambda: len(gone) >= 6, seconds=30)
        converged(api)
        assert operator.process.poll() is None


def test_kopf_gives_up_and_the_operator_ends(api, start, proxy):
    """410 as the answer to a watch of the services is beyond Kopf: the process ends with 1, and the next one goes on."""
    with start(api.namespace, through=proxy) as operator:
        proxy.rule = lambda _method, path, watch: 410 if watch and path.endswith("/inferenceservices") else None
        proxy.cut_watches()
        until(lambda: operator.process.poll() is not None, seconds=60)
        assert 1 == operator.stop()
    api.serve()
    with start(api.namespace):
        converged(api)


def test_watches_that_go_silent(api, start, proxy):
    """All are taken up anew, Kopf's too; what they miss of services is found by listings meanwhile."""
    with start(api.namespace, through=proxy) as operator:
        api.serve()
        converged(api)
        proxy.silence_watches()
        api.serve(name="another")
        until(lambda: api.get("Deployment", "another"), seconds=LOOKED_AT)
        api.delete("Service", "iris")
        until(lambda: api.get("Service", "iris"), seconds=SILENCE + 30)
        converged(api)
        converged(api, "another")
        assert operator.lives()


def silent(plural):
    """All watches of a kind are opened and say nothing, for good."""
    return lambda _method, path, watch: SILENT if watch and path.endswith(f"/{plural}") else None


def test_watches_of_a_child_that_stay_silent(api, start, proxy):
    """What they miss is healed, liveness names the kind; and it lives again once they speak."""
    proxy.rule = silent("deployments")
    with start(api.namespace, through=proxy, constants=QUICK) as operator:
        api.serve()
        converged(api)
        api.patch("Deployment", "iris", {"spec": {"progressDeadlineSeconds": 77}})
        until(lambda: api.get("Deployment", "iris"), lambda seen: seen["spec"]["progressDeadlineSeconds"] == 120, 10)
        code, fault = until(operator.health, lambda seen: seen != (200, "ok"), seconds=60)
        assert (503, "the watch has not delivered changes of deployments") == (code, fault.partition(" for ")[0])
        assert operator.metric('aiops_operator_watch_lag_seconds{kind="deployments"}') > 10
        assert operator.metric('aiops_operator_watch_lag_seconds{kind="services"}') == 0
        proxy.rule = lambda *_: None
        until(operator.lives, seconds=10)


def test_watches_of_services_that_stay_silent(api, start, proxy):
    """Listings find a new service, and liveness names what was not delivered."""
    proxy.rule = silent("inferenceservices")
    with start(api.namespace, through=proxy, constants=QUICK) as operator:
        api.serve()
        converged(api)
        code, fault = until(operator.health, lambda seen: seen != (200, "ok"), seconds=60)
        assert (503, f"the watch has not delivered {api.namespace}/iris") == (code, fault.partition(" for ")[0])


def test_quiet_watches_and_an_api_server_that_refuses_are_no_death(api, start, proxy):
    """Nothing happens for many silences, and then half of all listings are refused."""
    with start(api.namespace, through=proxy, constants=QUICK) as operator:
        api.serve()
        converged(api)
        seen = len(proxy.passed)

        def listings():
            return sum(entry.method == "GET" and not entry.is_watch for entry in proxy.passed[seen:])

        until(lambda: listings() > 100 or not operator.lives(), seconds=60)
        assert operator.lives()
        count = 0

        def half(method, _path, watch):
            nonlocal count
            count += method == "GET" and not watch
            return 500 if method == "GET" and not watch and count % 2 else None

        proxy.rule = half
        until(lambda: count > 100 or not operator.lives(), seconds=60)
        assert operator.lives()


def test_an_api_server_that_is_away(api, start, proxy):
    """For 90 s nothing answers: the operator lives, and makes up for it afterwards."""
    with start(api.namespace, through=proxy) as operator:
        api.serve()
        converged(api)
        proxy.rule = lambda *_: CUT
        proxy.cut_watches()
        began = time.monotonic()
        api.delete("Service", "iris")
        api.serve(name="another")
        until(lambda: not operator.lives() or time.monotonic() - began > 90, seconds=100)
        assert operator.lives()
        proxy.rule = lambda *_: None
        until(lambda: api.get("Service", "iris"), seconds=30)
        converged(api)
        converged(api, "another")


@pytest.mark.parametrize("writes", range(1, 6))  # four children and the status, which is written once
def test_a_kill_after_each_write(api, start, proxy, writes):
    """The next operator goes on from what there is, whichever of the writes of a reconcile was the last."""
    with start(api.namespace, through=proxy) as first:
        made = 0

        def after(passed):
            nonlocal made
            made += passed.method in WRITES
            if made == writes:
                first.process.send_signal(signal.SIGKILL)

        proxy.after = after
        api.serve()
        first.stop(signal.SIGCONT)
    with start(api.namespace):
        converged(api)


def test_a_status_that_is_overwritten(api, start):
    """It is written anew, and an Event is not told again for it."""
    with start(api.namespace):
        api.serve()
        converged(api)
        api.patch("InferenceService", "iris", {"status": {"conditions": [], "url": "http://elsewhere"}}, "status")
        until(api.status, lambda seen: seen.get("url") == f"http://iris.{api.namespace}.svc:80", 10)
        api.wait("Ready", "False", "RolloutInProgress")
