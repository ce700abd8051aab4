"""What the operator's metrics say of a service's verdict."""

from aiops_drift import Agreement, Verdict
from aiops_drift.verdict import FeatureScore
from aiops_operator.metrics import MAX_FEATURES, Metrics
from aiops_operator.names import Key

IRIS = Key("models", "iris")


def verdict(*features):
    """A verdict with these features' scores."""
    worst = features[0]
    return Verdict(
        drifting=True,
        reason="ScoreAboveThreshold",
        score=worst.score,
        threshold=worst.threshold,
        feature=worst.name,
        samples=300,
        features=features,
    )


def shown(metrics, name):
    """The series of a metric, by the last of its labels."""
    found = [sample for family in metrics.registry.collect() for sample in family.samples if sample.name == name]
    return {list(sample.labels.values())[-1]: sample.value for sample in found}


def test_each_feature_has_its_score_and_its_threshold():
    """A feature that is no longer there takes its series along, and a service that is gone all of them."""
    metrics = Metrics()
    metrics.set_drift(
        IRIS, verdict(FeatureScore("a", 7.0, 5.0), FeatureScore("b", 1.0, 4.0)), detected=True, acknowledged=False
    )
    assert {"a": 7.0, "b": 1.0} == shown(metrics, "inferenceservice_drift_feature_score")
    assert {"a": 5.0, "b": 4.0} == shown(metrics, "inferenceservice_drift_feature_threshold")

    metrics.set_drift(IRIS, verdict(FeatureScore("c", 2.0, 5.0)), detected=False, acknowledged=False)
    assert {"c": 2.0} == shown(metrics, "inferenceservice_drift_feature_score")
    assert {"iris": 0.0} == shown(metrics, "inferenceservice_drift_detected")

    metrics.forget(IRIS)
    for name in ("score", "feature_score", "feature_threshold", "detected", "samples"):
        assert {} == shown(metrics, f"inferenceservice_drift_{name}")


def test_of_many_features_the_worst_are_shown():
    """By how far they are beyond their own thresholds: a model of thousands must not make thousands of series."""
    metrics = Metrics()
    many = [FeatureScore(f"f{i}", float(i), 5.0) for i in range(100)]
    metrics.set_drift(IRIS, verdict(FeatureScore("strict", 50.0, 0.5), *many), detected=True, acknowledged=False)
    expected = {"strict", *(f"f{i}" for i in range(101 - MAX_FEATURES, 100))}

    assert expected == shown(metrics, "inferenceservice_drift_feature_score").keys()
    assert MAX_FEATURES == len(expected)


def test_a_compared_revision_has_its_figures():
    """As long as it is compared; a distance from the first row on."""
    metrics, names = Metrics(), ("rows", "failed_rows", "distance")

    def figures():
        return [shown(metrics, f"inferenceservice_shadow_{name}").get("iris") for name in names]

    metrics.set_shadow(IRIS, Agreement(failed=2))
    assert [0, 2, None] == figures()
    metrics.set_shadow(IRIS, Agreement(10, 1, 2))
    assert [10, 2, 0.1] == figures()
    metrics.set_shadow(IRIS, None)
    assert [None, None, None] == figures()
    metrics.set_shadow(IRIS, Agreement(10, 1))
    metrics.forget(IRIS)
    assert [None, None, None] == figures()
