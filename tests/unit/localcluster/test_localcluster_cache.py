import fcntl
from pathlib import Path

import pytest

from aiops_localcluster import cache
from aiops_localcluster.commands import output, run_long, tail
from aiops_localcluster.errors import CommandError, TimeoutExpiredError
from aiops_localcluster.progress import silent


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"AIOPS_QUALITY_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/aiops-quality"),
        ({"HOME": "/h"}, "/h/.cache/aiops-quality"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/aiops-quality"),
    ],
)
def test_cache_is_where_the_environment_says(environment: dict[str, str], expected: str) -> None:
    """The more special variable wins."""
    assert str(cache.folder(environment)) == expected


def test_a_key_tells_parts_apart_that_read_the_same_when_joined() -> None:
    """The length of each part is in it."""
    assert cache.key(["ab", "c"]) != cache.key(["a", "bc"])


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    """The next one starts afresh, and finds nothing of the first."""

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        message = "no space"
        raise OSError(message)

    with pytest.raises(OSError, match="no space"):
        cache.fill(tmp_path / "target", fail)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    """While it is filled it has another name."""
    seen = []
    cache.fill(tmp_path / "target", lambda folder: seen.append((folder.name, (tmp_path / "target").exists())))

    assert (seen, (tmp_path / "target").is_dir()) == ([(".target.unfinished", False)], True)


def test_a_lock_that_is_held_is_waited_for_and_then_named(tmp_path: Path) -> None:
    """The error says who has it and what they do."""
    path = tmp_path / "lock"
    told: list[str] = []
    with path.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with (
            pytest.raises(TimeoutExpiredError, match=r"another process has been building .*lock"),
            cache.locked(path, what="building", progress=told.append, timeout=0.1),
        ):
            pass

    assert told == ["waiting for another process that is building (0 s)"]


@pytest.mark.parametrize("is_temporary", [True, False])
def test_a_temporary_lock_leaves_no_file(tmp_path: Path, *, is_temporary: bool) -> None:
    """It can be taken again either way."""
    path = tmp_path / "lock"
    for _ in range(2):
        with cache.locked(path, what="testing", progress=silent, timeout=1, is_temporary=is_temporary):
            assert path.exists()

    assert path.exists() != is_temporary


def test_a_failed_command_shows_what_it_said() -> None:
    """The end of its stderr, indented."""
    with pytest.raises(CommandError) as caught:
        output(["sh", "-c", "echo first; echo broken >&2; exit 3"])

    assert str(caught.value).endswith("ended with code 3:\n    broken")


def test_a_missing_command_is_named() -> None:
    """Not as a FileNotFoundError of some path."""
    with pytest.raises(CommandError, match="cannot run no-such-program: No such file or directory"):
        output(["no-such-program"])


def test_a_command_that_hangs_is_killed_with_its_children() -> None:
    """And the error shows what it had said by then."""
    with pytest.raises(TimeoutExpiredError, match=r"(?s)waiting took longer than 0 s and was stopped.*    begun"):
        run_long(["sh", "-c", "echo begun; sleep 60 & wait"], "waiting", progress=silent, timeout=0.3)


def test_a_long_command_that_fails_shows_the_end_of_its_output() -> None:
    """Both of its streams."""
    with pytest.raises(CommandError, match=r"(?s)building failed \(code 2\).*    out\n    err"):
        run_long(["sh", "-c", "echo out; echo err >&2; exit 2"], "building", progress=silent, timeout=30)


def test_the_tail_of_a_text() -> None:
    """The last lines, indented."""
    assert tail("a\nb\nc\n", 2) == "    b\n    c"
