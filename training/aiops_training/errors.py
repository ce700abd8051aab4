"""What can go wrong between data and a model in service.

```
TrainingError (Exception)
├── DataError       a data set that cannot be had or trained on
├── FormatError     a format that cannot hold the model
├── PackageError    artifacts that do not fit where they should go
├── ServedError     the model in service cannot be asked
├── ArtifactsError  artifacts that are not what their manifest says
├── SignatureError  a manifest that is not what was signed
├── RegistryError   a registry that does not take or give an image
├── PromotionError  a git repository that does not take the change
└── ReceiverError   a receiver that cannot start
```
"""


class TrainingError(Exception):
    """Root of the tree; its text says what is wrong and what to do."""


class DataError(TrainingError):
    """A data set that cannot be had, or cannot be trained on."""


class FormatError(TrainingError):
    """A format that cannot hold the model, or whose library is not there."""


class PackageError(TrainingError):
    """Artifacts that do not fit where they should go."""


class ServedError(TrainingError):
    """The model in service cannot be asked: not there, not to be trusted, or of other features."""


class ArtifactsError(TrainingError):
    """Artifacts that cannot be read, or are not what their manifest says."""


class SignatureError(TrainingError):
    """A manifest that is not what was signed, or a key that is none."""


class RegistryError(TrainingError):
    """A registry that does not take or give an image."""


class PromotionError(TrainingError):
    """A git repository that does not take the change."""


class ReceiverError(TrainingError):
    """A receiver that cannot start."""
