#!/usr/bin/env python3
"""Write behind each image's tag, in Dockerfiles and Compose files, the digest that the tag has today: `name:tag@sha256:…`.

    scripts/pin_images.py                      all of this repository's
    scripts/pin_images.py --check              write nothing, and fail if a digest is missing or the tag has moved on
    scripts/pin_images.py deploy/Dockerfile    these files only

Run when a release is made, where registries can be reached. It changes nothing but digests, and a second run changes nothing.
Our own images are left as they are: they are built, not fetched. Registries on this machine are spoken to without TLS, as Docker does.
"""

import hashlib
import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

ROOT = Path(__file__).resolve().parent.parent
FILES = ("deploy/Dockerfile", "docker-compose.yml", "deploy/compose/*.yml")
OURS = re.compile(r"klinestream(-[a-z]+)?:")
TIMEOUT_S = 30.0
# An index of platforms first: its digest holds for every machine that the image is made for.
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
# `FROM name:tag@digest` and `image: name:tag@digest`; a stage that is built on another one has no tag.
NAMED = re.compile(
    r"^(?P<before>FROM +|\s+image: +)(?P<image>[^\s@$:]+(?::\d+/[^\s@:]+)?:[^\s@]+)(?P<digest>@sha256:[0-9a-f]{64})?", re.MULTILINE
)
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class PinningError(Exception):
    """A digest could not be had."""


@dataclass(frozen=True, slots=True)
class Image:
    """Where an image is: its registry's address, its name there, its tag.

    >>> Image.of("postgres:18.4-bookworm")
    Image(registry='https://registry-1.docker.io', name='library/postgres', tag='18.4-bookworm')
    >>> Image.of("ghcr.io/kafbat/kafka-ui:v1.5.0")
    Image(registry='https://ghcr.io', name='kafbat/kafka-ui', tag='v1.5.0')
    """

    registry: str
    name: str
    tag: str

    @classmethod
    def of(cls, written: str) -> "Image":
        """Docker's own rule: what stands before the first slash is a registry if it has a dot or a port, or is localhost."""
        path, _, tag = written.rpartition(":")
        host, slash, name = path.partition("/")
        if slash and ("." in host or ":" in host or host == "localhost"):
            local = host.partition(":")[0] in {"localhost", "127.0.0.1"}
            return cls(f"http{'' if local else 's'}://{host}", name, tag)
        return cls("https://registry-1.docker.io", path if slash else f"library/{path}", tag)


def digest_of(image: Image, client: httpx.Client) -> str:
    """What the tag names today: `sha256:…`. Raises PinningError."""
    url = f"{image.registry}/v2/{image.name}/manifests/{image.tag}"
    headers = {"Accept": MANIFESTS}
    try:
        answer = client.get(url, headers=headers)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            headers["Authorization"] = f"Bearer {_token(answer.headers.get('WWW-Authenticate', ''), url, client)}"
            answer = client.get(url, headers=headers)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise PinningError(f"expected a manifest at {url}, got: {error}") from None
    found = "sha256:" + hashlib.sha256(answer.content).hexdigest()
    said = answer.headers.get("Docker-Content-Digest", found)
    if said != found:
        raise PinningError(f"expected the manifest at {url} to be what its header says, {said}, but it is {found}")
    return found


def _token(challenge: str, url: str, client: httpx.Client) -> str:
    """Anybody gets one that allows to read what is public, but has to ask for it where the refusal says."""
    scheme, _, rest = challenge.partition(" ")
    asked = dict(CHALLENGE.findall(rest))
    realm = asked.pop("realm", "")
    if scheme.lower() != "bearer" or not urlsplit(realm).netloc:
        raise PinningError(f"expected {url} to say where a token is to be had, got {challenge!r}")
    answer = client.get(realm, params=asked)
    answer.raise_for_status()
    told = answer.json()
    return str(told.get("token") or told.get("access_token"))


def pinned(text: str, client: httpx.Client) -> str:
    """The text with the digest of each image behind its tag, and nothing else changed. Raises PinningError."""

    def with_digest(found: re.Match[str]) -> str:
        image = found["image"]
        return found[0] if OURS.match(image) else f"{found['before']}{image}@{digest_of(Image.of(image), client)}"

    return NAMED.sub(with_digest, text)


def main(arguments: Sequence[str]) -> int:
    """Pin the files, or check that they are; the exit code."""
    parser = ArgumentParser(description="Write behind each image's tag the digest that it has today.")
    parser.add_argument("files", nargs="*", type=Path, help="Dockerfiles and Compose files; all of this repository's by default.")
    parser.add_argument("--check", action="store_true", help="Write nothing; exit code 1 if a file would change.")
    asked = parser.parse_args(arguments)
    files = asked.files or [file for pattern in FILES for file in sorted(ROOT.glob(pattern))]
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        fresh = {file: pinned(file.read_text(), client) for file in files}
    changed = [file for file, text in fresh.items() if text != file.read_text()]
    for file in changed:
        print(f"{file}: {'differs' if asked.check else 'pinned'}")
        if not asked.check:
            file.write_text(fresh[file])
    return 1 if asked.check and changed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PinningError as error:
        sys.exit(f"pin_images: {error}")
