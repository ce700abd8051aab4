"""The errors of the local cluster.

::

    LocalClusterError            everything below; its text is for the person at the keyboard
    ├── UnsupportedError         this machine lacks what is needed (root, apt, Go, a docker daemon, ...)
    ├── CommandError             a command that was run ended badly; carries the end of its output
    ├── StartError               a daemon died or never became ready; names its log and shows the last lines
    ├── TimeoutExpiredError      something took longer than it may; names what and where to look
    └── NotRunningError          there is no such cluster
"""


class LocalClusterError(Exception):
    """Base of all errors that the local cluster raises on purpose."""


class UnsupportedError(LocalClusterError):
    """This machine lacks something that has to be there first."""


class CommandError(LocalClusterError):
    """A command ended with a code other than zero."""


class StartError(LocalClusterError):
    """A daemon died or never became ready."""


class TimeoutExpiredError(LocalClusterError):
    """Something took longer than it may."""


class NotRunningError(LocalClusterError):
    """The cluster that was asked for is not running."""
