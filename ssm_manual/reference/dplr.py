"""The DPLR operator from its continuous parameters, by its recurrence."""

from ssm_manual.reference.dplr_discretize import tustin_dplr
from ssm_manual.reference.dplr_scan import dplr_scan


def apply(Lambda, P, Q, B, C, D, dt, u, x0=None, *, view="scan", real=True):
    """Every view is the same operator, so the reference has one."""
    return dplr_scan(*tustin_dplr(Lambda, P, Q, B, dt, real=real), C, D, u, x0, real=real)
