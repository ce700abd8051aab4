"""ConfigMap `<name>-runtime`: what the pods read again without a restart."""

from dataclasses import dataclass
from typing import Any, Final

import yaml

from aiops_operator import podsview
from aiops_operator.api import Drift, InferenceService, Webhook
from aiops_operator.names import CONFIG_MAP, RUNTIME_KEY, SHADOW_KEY
from aiops_operator.names import runtime_config_map as runtime_name
from aiops_operator.resources.metadata import object_metadata

# Ten times as fast where PyYAML was built with libyaml, as its wheels are.
_DUMPER: Final = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Mirror:
    """Whom the pods send copies of their requests to.

    Attributes:
        revision: which comparison they are for, at most 64 characters; empty as long as there is no `url`.
        percent: of the requests.
        url: where these pods answer; empty as long as they are not ready to be asked.
    """

    revision: str
    percent: int
    url: str = ""


def runtime_config_map(service: InferenceService, mirror: Mirror | None = None) -> dict[str, Any]:
    """The ConfigMap that is mounted as /etc/aiops; where there is a shadow it has settings for the shadow's own pods, too."""
    settings = _settings(service.drift, muted=podsview.acknowledged(service))
    data = {RUNTIME_KEY: _yaml(settings)}
    if mirror is not None:
        data[SHADOW_KEY] = data[RUNTIME_KEY]
        if mirror.url:
            copied = {"url": mirror.url, "revision": mirror.revision, "percent": mirror.percent}
            data[RUNTIME_KEY] = _yaml(settings | {"shadow": copied})
    return {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": object_metadata(service, runtime_name(service.key.name)),
        "data": data,
    }


def _yaml(settings: dict[str, Any]) -> str:
    return yaml.dump(settings, Dumper=_DUMPER, sort_keys=False, allow_unicode=True)


def _settings(drift: Drift, *, muted: bool) -> dict[str, Any]:
    webhook = drift.webhook or Webhook()
    settings: dict[str, Any] = {
        "drift": {
            "zScoreThreshold": drift.thresholds.z_score,
            "features": [
                {"name": name, "zScoreThreshold": threshold} for name, threshold in drift.thresholds.features.items()
            ],
            # What the verdict in the resource is made by: for the pod's own page, which shows its own rows by the same rules.
            "minSamples": drift.thresholds.min_samples,
            "falseAlarmInterval": drift.false_alarm_interval,
            "expectations": {"mode": drift.expectations_mode},
            # Pods tell of nothing that a person has acknowledged; the key is there in such an episode alone.
            "webhook": {"cooldown": webhook.cooldown} | ({"muted": True} if muted else {}),
        }
    }
    if drift.average_run_length is not None:
        settings["drift"]["averageRunLength"] = drift.average_run_length
    return settings
