"""What can go wrong between data and artifacts.

```
TrainingError (Exception)
├── DataError       a data set that cannot be trained on
├── FormatError     a format that cannot hold the model
└── PackageError    artifacts that do not fit where they should go
```
"""


class TrainingError(Exception):
    """Root of the tree; its text says what is wrong and what to do."""


class DataError(TrainingError):
    """A data set that cannot be trained on."""


class FormatError(TrainingError):
    """A format that cannot hold the model, or whose library is not there."""


class PackageError(TrainingError):
    """Artifacts that do not fit where they should go."""
