"""What Kopf is told."""

import kopf

from aiops_operator import handlers


def test_kopf_is_told_to_write_nothing_and_to_try_for_ever():
    """No Events, no notes of what was handled, no end of trying, and CRDs only where it may look at them."""
    settings = kopf.OperatorSettings()
    handlers.apply_settings(settings, scanning=False)
    backoffs = iter(settings.networking.error_backoffs)
    assert [1, 1, 2, 3, 5, 8, 10, 10] == [next(backoffs) for _ in range(8)]
    assert (False, True) == (settings.posting.enabled, settings.scanning.disabled)
    storage = settings.persistence.diffbase_storage
    assert ({}, None) == (storage.build(body=kopf.Body({})), storage.fetch(body=kopf.Body({})))
