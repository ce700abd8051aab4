"""What is remembered of the cluster: the latest, whatever order it is told in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiops_operator import names
from aiops_operator.names import Key
from aiops_operator.store import PARTIAL, Store, older, service_of

IRIS = Key("models", "iris")


def child(version: int, *, name: str = "iris", service: str | None = "iris", **more: Any) -> dict[str, Any]:
    """An object that was made for a service, or of others."""
    labels = {names.LABEL_SERVICE: service} if service else {}
    metadata = {"namespace": "models", "name": name, "resourceVersion": str(version), "uid": "u", "labels": labels}
    return {"kind": "Deployment", "metadata": metadata, **more}


def test_what_was_put_is_had_and_is_the_readers_own():
    """A change of what was read changes nothing, and managed fields are not kept."""
    store, body = Store(), child(1, spec={"replicas": 1})
    body["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    assert store.put(names.DEPLOYMENT, body)
    read = store.get(names.DEPLOYMENT, *IRIS)
    assert read is not None
    read["spec"]["replicas"] = 2
    assert {"replicas": 1} == (store.get(names.DEPLOYMENT, *IRIS) or {})["spec"]
    assert "managedFields" not in (store.get(names.DEPLOYMENT, *IRIS) or {})["metadata"]
    assert [child(1, spec={"replicas": 1})] == store.of_service(names.DEPLOYMENT, IRIS)


def test_our_own_write_is_no_news_when_the_watch_tells_of_it():
    """Nor is anything older than that, which the watch may tell of afterwards."""
    store = Store()
    assert [True, False, False, True] == [store.put(names.DEPLOYMENT, child(v)) for v in (9, 9, 8, 10)]


def test_a_late_answer_does_not_bring_back_what_has_ended():
    """And a new object of the same name is news."""
    store = Store()
    store.put(names.DEPLOYMENT, child(1))
    assert store.drop(names.DEPLOYMENT, child(5))
    assert not store.drop(names.DEPLOYMENT, child(5))
    assert [False, False, True] == [store.put(names.DEPLOYMENT, child(v)) for v in (4, 5, 6)]
    assert not store.drop(names.DEPLOYMENT, child(5))


def test_a_listing_ends_what_is_not_in_it_and_keeps_what_was_written_since():
    """Ends are news as much as the rest, in the namespaces that were listed."""
    store = Store()
    for version, name in ((1, "a"), (2, "b"), (9, "c")):
        store.put(names.DEPLOYMENT, child(version, name=name))
    news = store.replace(names.DEPLOYMENT, None, [child(2, name="b"), child(5, name="d")], "7")
    assert ["d", "a"] == [body["metadata"]["name"] for body in news]
    assert ["b", "c", "d"] == [body["metadata"]["name"] for body in store.of_service(names.DEPLOYMENT, IRIS)]
    assert [] == store.replace(names.DEPLOYMENT, "other", [], "20")


def test_how_a_job_ended_is_known_after_it_was_deleted():
    """As the watch told with its end, or else as it was known; of other kinds nothing is kept."""
    store, complete = Store(), {"conditions": [{"type": "Complete"}]}
    for kind, name in ((names.JOB, "a"), (names.JOB, "b"), (names.DEPLOYMENT, "a")):
        store.put(kind, child(1, name=name, status={"active": 1}))
    assert store.ended(names.JOB, "models", "a") is None
    store.drop(names.JOB, child(2, name="a", spec={}, status=complete))
    store.drop(names.DEPLOYMENT, child(2, name="a", status=complete))
    store.replace(names.JOB, None, [], "3")
    seen = [store.ended(names.JOB, "models", name) or {} for name in ("a", "b", "c")]
    assert [complete, {"active": 1}, None] == [body.get("status") for body in seen]
    assert store.ended(names.DEPLOYMENT, "models", "a") is None


def test_of_objects_of_others_only_the_version_is_kept():
    """They may be large, or secret."""
    store = Store()
    store.put(names.CONFIG_MAP, child(3, name="theirs", service=None, data={"key": "value"}))
    known = {"name": "theirs", "namespace": "models", "uid": "u", "resourceVersion": "3"}
    assert {"kind": PARTIAL, "metadata": known} == store.get(names.CONFIG_MAP, "models", "theirs")


def test_the_whole_of_an_object_replaces_its_metadata_of_the_same_version():
    """It is no news, but more is known."""
    store, whole = Store(), child(3, data={"a": "b"})
    store.put(names.CONFIG_MAP, {"kind": PARTIAL, "metadata": whole["metadata"]})
    assert not store.put(names.CONFIG_MAP, whole)
    assert whole == store.get(names.CONFIG_MAP, *IRIS)
    assert not store.put(names.CONFIG_MAP, {"kind": PARTIAL, "metadata": whole["metadata"]})
    assert whole == store.get(names.CONFIG_MAP, *IRIS)


def test_who_refers_to_an_object_is_known_as_long_as_they_do():
    """Whether the object is there or not."""
    store = Store()

    def service(version: int, artifacts: dict[str, Any]) -> dict[str, Any]:
        return child(version, service=None, spec={"model": {"artifacts": artifacts}})

    store.put(names.INFERENCE_SERVICE, service(1, {"configMap": {"name": "files"}}))
    assert [IRIS] == store.referring(names.CONFIG_MAP, Key("models", "files"))
    store.put(names.INFERENCE_SERVICE, service(2, {"persistentVolumeClaim": {"claimName": "disk"}}))
    assert [] == store.referring(names.CONFIG_MAP, Key("models", "files"))
    assert [IRIS] == store.referring(names.CLAIM, Key("models", "disk"))
    store.drop(names.INFERENCE_SERVICE, service(3, {}))
    assert [] == store.referring(names.CLAIM, Key("models", "disk"))


@given(
    writes=st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=20),
    order=st.randoms(use_true_random=False),
)
def test_answers_and_events_in_any_order_leave_the_last_state(writes, order):
    """A server's history is told by its watch, in order, and each write by an answer too, some time."""
    store, truth, events = Store(), {}, []
    for version, (name, ends) in enumerate(writes, start=1):
        truth[name] = None if ends else version
        events.append((ends, child(version, name=name)))
    answers = [body for ends, body in events if not ends]
    order.shuffle(answers)
    for ends, body in events:
        while answers and order.random() < 1 / 3:  # an answer may even be there before its event
            answer = answers.pop()
            if int(answer["metadata"]["resourceVersion"]) <= int(body["metadata"]["resourceVersion"]):
                store.put(names.DEPLOYMENT, answer)
        (store.drop if ends else store.put)(names.DEPLOYMENT, body)
    for body in answers:
        store.put(names.DEPLOYMENT, body)
    seen = {name: store.get(names.DEPLOYMENT, "models", name) for name in truth}
    assert truth == {name: body and int(body["metadata"]["resourceVersion"]) for name, body in seen.items()}


def test_versions_are_compared_as_numbers_where_they_are():
    """Others have no order: whatever comes is taken."""
    assert [True, False, False, False] == [older("9", "10"), older("10", "9"), older("a", "b"), older("", "1")]


@pytest.mark.parametrize(
    ("label", "api_version", "expected"),
    [
        ("iris", "aiops-quality.io/v1alpha1", "iris"),
        (None, "aiops-quality.io/v1alpha1", "iris"),
        ("other", "aiops-quality.io/v1alpha1", "iris"),
        ("other", "serving.kserve.io/v1beta1", "other"),
        (None, "serving.kserve.io/v1beta1", None),
    ],
)
def test_an_object_was_made_for_its_owner_or_for_whom_its_label_names(label, api_version, expected):
    """A label that was edited by hand does not count beside an owner; another project's kind of the same name is none."""
    owner = {"apiVersion": api_version, "kind": "InferenceService", "name": "iris", "uid": "1"}
    labels = {names.LABEL_SERVICE: label} if label else {}
    body = {"metadata": {"name": "x", "namespace": "n", "labels": labels, "ownerReferences": [owner]}}
    assert (Key("n", expected) if expected else None) == service_of(body)
