"""What can go wrong between data and artifacts.

```
TrainingError (Exception)
├── DataError       a data set that cannot be trained on
└── PackageError    artifacts that do not fit where they should go
```
"""


class TrainingError(Exception):
    """Root of the tree; its text says what is wrong and what to do."""


class DataError(TrainingError):
    """A data set that cannot be trained on."""


class PackageError(TrainingError):
    """Artifacts that do not fit where they should go."""
