"""Build images from Dockerfiles, with docker where a daemon answers and with buildah where none does.

Buildah works in a store of our own inside the cache, in a private mount namespace: it neither sees nor changes the images
that the user has, and leaves no mount. Where no registry can be reached, the base is a Debian made by mmdebstrap.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiops_localcluster import cache, packages
from aiops_localcluster.commands import output, run_long
from aiops_localcluster.errors import LocalClusterError, UnsupportedError
from aiops_localcluster.progress import Lines, Progress, silent

BASE = "localhost/aiops-quality-base:bookworm"
_SUITE = "bookworm"
_BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
_BASE_OPTIONS = (
    "--variant=minbase",
    f"--include={','.join(_BASE_PACKAGES)}",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
)
_BASE_DOCKERFILE = """\
FROM scratch
ADD base.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["python3"]
"""
_CERTIFICATES = Path("/etc/ssl/certs")
_CERTIFICATE_ARGUMENTS = ("PIP_CERT", "SSL_CERT_FILE")
_BUILD_SECONDS = 1800.0
_EXPORT_SECONDS = 600.0


@dataclass(frozen=True)
class Image:
    """An image that was built.

    Attributes:
        reference: Its name and tag.
        identifier: Digest of its configuration, "sha256:...": the same content has the same one.
        builder: "docker" or "buildah"; who keeps it.
    """

    reference: str
    identifier: str
    builder: str


def builder() -> str:
    """Return who builds here: "docker" where a daemon answers, else "buildah"."""
    if shutil.which("docker"):
        with contextlib.suppress(LocalClusterError):
            output(["docker", "version", "--format", "{{.Server.Version}}"], timeout=10)
            return "docker"
    return "buildah"


def ensure_base(progress: Progress = silent) -> str:
    """Make the base image that stands in for python:*-slim where buildah builds, unless it is there.

    Args:
        progress: Told about each step.

    Returns:
        Its name in buildah's store, for `--build-arg BASE_IMAGE=`.

    Raises:
        UnsupportedError: We are not root, or a tool is missing and cannot be installed.
        CommandError: A step failed; shows what it said.
    """
    _prepare(progress)
    with _store_locked(progress):
        return _ensure_base(progress)


def build(
    dockerfile: Path,
    name: str,
    context: Path,
    *,
    arguments: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> str:
    """Build an image; nothing changed means seconds.

    With docker the Dockerfile's own base is used, with buildah the one of `ensure_base`, unless `arguments` has a
    BASE_IMAGE. Where PIP_CERT or SSL_CERT_FILE is set, buildah passes both as build arguments and lets the
    build's steps read this machine's certificates.

    Args:
        dockerfile: The Dockerfile.
        name: Name in clusters, such as "localhost/aiops-quality". Without a tag it gets one made of its content: an
            image that changed has another name, so that pods roll, and two clones never take each other's.
        context: Folder that COPY reads from.
        arguments: Further build arguments.
        progress: Told about each step; lines on stderr by default.

    Returns:
        Name and tag.

    Raises:
        UnsupportedError: There is no docker daemon, and buildah cannot be installed or run.
        CommandError: A step failed; shows what it said.
    """
    told = progress or Lines()
    given = dict(arguments or {})
    if builder() == "docker":
        return _build_with_docker(dockerfile, name, context, given, told)
    _prepare(told)
    with _store_locked(told):
        return _build_with_buildah(dockerfile, name, context, given, told)


def tagged(name: str, identifier: str) -> str:
    """Return a name as it is where it has a tag, else with the first 12 digits of the image's digest as its tag.

    Args:
        name: Such as "localhost/aiops-quality" or "registry:5000/aiops-quality:dev".
        identifier: Such as "sha256:34bcde03...".
    """
    return name if ":" in name.rpartition("/")[2] else f"{name}:{identifier.removeprefix('sha256:')[:12]}"


@contextlib.contextmanager
def exported(image: Image, progress: Progress = silent) -> Iterator[Path]:
    """Write an image to a tar for the length of a with block.

    Args:
        image: What to write.
        progress: Told that it takes a while.
    """
    progress(f"exporting {image.reference}")
    place = cache.folder() / "images"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=place) as folder:
        file = Path(folder) / "image.tar"
        if image.builder == "docker":
            command: list[str | Path] = ["docker", "save", f"--output={file}", image.reference]
            run_long(command, f"exporting {image.reference}", progress=progress, timeout=_EXPORT_SECONDS)
        else:
            with _store_locked(progress):
                command = [
                    *_buildah(),
                    *("push", "--quiet"),
                    image.identifier.removeprefix("sha256:"),
                    f"docker-archive:{file}:{image.reference}",
                ]
                run_long(command, f"exporting {image.reference}", progress=progress, timeout=_EXPORT_SECONDS)
        yield file


def find(reference: str, progress: Progress = silent) -> Image:
    """Find an image that was built before by its name and tag.

    Raises:
        LocalClusterError: There is none.
    """
    if builder() == "docker":
        return Image(reference, _docker_identifier(reference), "docker")
    _prepare(progress)
    with _store_locked(progress):
        identifier = _stored().get(reference)
    if not identifier:
        message = f"there is no image {reference}: build it first"
        raise LocalClusterError(message)
    return Image(reference, identifier, "buildah")


def _prepare(progress: Progress) -> None:
    packages.ensure(packages.IMAGES, progress)
    if os.geteuid():
        message = "building images without a docker daemon needs root (sudo)"
        raise UnsupportedError(message)


def _build_with_docker(
    dockerfile: Path, name: str, context: Path, arguments: Mapping[str, str], progress: Progress
) -> str:
    progress(f"building {name} from {dockerfile.name} with docker: minutes the first time, then seconds")
    with tempfile.TemporaryDirectory(prefix="aiops-build-") as folder:
        identifier = Path(folder) / "id"
        given = (f"--build-arg={key}={value}" for key, value in arguments.items())
        command: list[str | Path] = [
            "docker",
            "build",
            *given,
            f"--iidfile={identifier}",
            f"--file={dockerfile}",
            context,
        ]
        run_long(command, f"building {name}", progress=progress, timeout=_BUILD_SECONDS)
        reference = tagged(name, identifier.read_text().strip())
        output(["docker", "tag", identifier.read_text().strip(), reference])
    return reference


def _build_with_buildah(
    dockerfile: Path, name: str, context: Path, arguments: Mapping[str, str], progress: Progress
) -> str:
    given = {"BASE_IMAGE": arguments.get("BASE_IMAGE") or _ensure_base(progress), **arguments}
    certificates = {key: os.environ[key] for key in _CERTIFICATE_ARGUMENTS if os.environ.get(key)}
    mounts = (f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro",) if certificates else ()
    progress(f"building {name} from {dockerfile.name} with buildah: minutes the first time, then seconds")
    with tempfile.TemporaryDirectory(prefix="aiops-build-") as folder:
        identifier = Path(folder) / "id"
        run_long(
            [
                *_buildah(),
                *("build", "--isolation=chroot", "--layers", "--network=host", "--format=oci"),
                *(f"--build-arg={key}={value}" for key, value in (given | certificates).items()),
                *mounts,
                f"--iidfile={identifier}",
                f"--file={dockerfile}",
                context,
            ],
            f"building {name}",
            progress=progress,
            timeout=_BUILD_SECONDS,
        )
        found = identifier.read_text().strip().removeprefix("sha256:")
        reference = tagged(name, found)
        output([*_buildah(), "tag", found, reference])
    return reference


def _docker_identifier(reference: str) -> str:
    return output(["docker", "image", "inspect", "--format={{.Id}}", reference]).strip()


def _stored() -> dict[str, str]:
    entries = json.loads(output([*_buildah(), "images", "--json", "--no-trunc"]) or "[]")
    return {name: f"sha256:{entry['id'].removeprefix('sha256:')}" for entry in entries for name in entry["names"] or ()}


def _ensure_base(progress: Progress) -> str:
    key = cache.key([_SUITE, *_BASE_OPTIONS, _BASE_DOCKERFILE])
    name = f"{BASE}-{key}"
    if name in _stored():
        return name
    folder = cache.folder() / "images" / f"base-{key}"
    if not folder.exists():
        progress(f"making a base image of Debian {_SUITE} with Python: about a minute, once; kept in {folder.parent}")
        cache.fill(folder, lambda place: _bootstrap(place, progress))
    run_long(
        [*_buildah(), "build", "--isolation=chroot", "--format=oci", f"--tag={name}", folder],
        "storing the base image",
        progress=progress,
        timeout=_BUILD_SECONDS,
    )
    return name


def _bootstrap(folder: Path, progress: Progress) -> None:
    (folder / "Dockerfile").write_text(_BASE_DOCKERFILE)
    run_long(
        ["mmdebstrap", "--quiet", *_BASE_OPTIONS, _SUITE, folder / "base.tar"],
        "making the base image",
        progress=progress,
        timeout=_BUILD_SECONDS,
    )


def _store_locked(progress: Progress) -> contextlib.AbstractContextManager[None]:
    return cache.locked(
        cache.folder() / "images" / "store.lock", what="building images", progress=progress, timeout=_BUILD_SECONDS
    )


def _buildah() -> tuple[str, ...]:
    """Return the beginning of every call of buildah; the caller holds the store's lock."""
    return _on_store(_driver())


def _on_store(driver: str) -> tuple[str, ...]:
    store = cache.folder() / "images" / f"store-{driver}"
    run = store / "run"
    # In a mount namespace of its own nothing is mounted yet, so what the last call noted about mounts is removed.
    shutil.rmtree(run, ignore_errors=True)
    flags = (f"--root={store / 'root'}", f"--runroot={run}", f"--storage-driver={driver}")
    return ("unshare", "--mount", "--", "buildah", *flags)


def _driver() -> str:
    images = cache.folder() / "images"
    for driver in ("overlay", "vfs"):
        if (images / f"store-{driver}").exists():
            return driver
    try:
        output([*_on_store("overlay"), "images"])
    except LocalClusterError:  # this file system cannot be stacked
        shutil.rmtree(images / "store-overlay", ignore_errors=True)
        return "vfs"
    return "overlay"
