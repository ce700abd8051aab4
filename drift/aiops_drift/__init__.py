"""The drift statistics: baseline profile, mergeable counts, verdict. No I/O and no clock."""

from aiops_drift.agreement import Agreement
from aiops_drift.calibration import Calibration
from aiops_drift.counts import Block, Counts
from aiops_drift.errors import DriftError, ProfileError, WireError
from aiops_drift.ledger import Cursor, advance, in_order
from aiops_drift.profile import PROFILE_VERSION, Profile, request_scores
from aiops_drift.recorder import Recorder
from aiops_drift.runlength import RATE_SECONDS, run_length
from aiops_drift.stored import Stored
from aiops_drift.verdict import FeatureScore, State, Thresholds, Verdict, observe, reconsider, verdict
from aiops_drift.wire import Baseline, Expectations, Report, Shadowed, reports_from

__all__ = [
    "PROFILE_VERSION",
    "RATE_SECONDS",
    "Agreement",
    "Baseline",
    "Block",
    "Calibration",
    "Counts",
    "Cursor",
    "DriftError",
    "Expectations",
    "FeatureScore",
    "Profile",
    "ProfileError",
    "Recorder",
    "Report",
    "Shadowed",
    "State",
    "Stored",
    "Thresholds",
    "Verdict",
    "WireError",
    "advance",
    "in_order",
    "observe",
    "reconsider",
    "reports_from",
    "request_scores",
    "run_length",
    "verdict",
]
