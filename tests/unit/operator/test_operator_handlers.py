"""What Kopf is told."""

import kopf

from aiops_operator import handlers


def test_kopf_is_told_to_watch_narrowly_and_to_write_nothing():
    """Server-side selectors for every kind of child, none for the resource itself; no Events; no end of trying."""
    settings = kopf.OperatorSettings()
    handlers.apply_settings(settings, scanning=False)
    selectors = {f"{key.group}/{key.any_name}": value for key, value in settings.watching.label_selectors.items()}
    assert selectors == dict.fromkeys(
        [
            "/configmaps",
            "/services",
            "apps/deployments",
            "policy/poddisruptionbudgets",
            "monitoring.coreos.com/servicemonitors",
            "/pods",
        ],
        "app.kubernetes.io/managed-by=aiops-operator",
    )
    backoffs = iter(settings.networking.error_backoffs)
    assert [next(backoffs) for _ in range(8)] == [1, 1, 2, 3, 5, 8, 10, 10]
    assert (settings.posting.enabled, settings.scanning.disabled) == (False, True)
