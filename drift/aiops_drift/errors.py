"""What can be wrong with data that reaches the statistics.

```
DriftError (ValueError)
├── ProfileError      a baseline or a stored profile that cannot describe a distribution
└── WireError         a `/drift` document that a pod should not have sent
```
"""


class DriftError(ValueError):
    """Root of the tree; its text says what is wrong and where."""


class ProfileError(DriftError):
    """A baseline or a stored profile that cannot describe a distribution."""


class WireError(DriftError):
    """A `/drift` document that a pod should not have sent."""
