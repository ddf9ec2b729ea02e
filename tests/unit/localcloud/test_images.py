"""localcloud.runtime.images: an image of a folder or of an archive, as the files of a registry."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from localcloud.runtime.images import INDEX, MANIFEST, Served, descriptor, digest, image_of, served
from localcloud.runtime.published import PublishError
from tests.container_registry import Image, archive

PAGE = Image(files={"page": (b"hello", 0o644)}, command=["/bin/serve"])


def by_path(files: list[Served]) -> dict[str, Served]:
    return {each.path: each for each in files}


def test_a_folder_is_an_image_with_one_layer(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/serve").write_text("#!/bin/sh")
    (tmp_path / "bin/serve").chmod(0o755)
    (tmp_path / "bin/sh").symlink_to("serve")
    found, files = served("acme/cart", "1.4", tmp_path, ["/bin/serve", "--port", "80"])
    known = by_path(files)
    assert known["/v2/"].data == b"{}"
    tagged = known["/v2/acme/cart/manifests/1.4"]
    assert tagged.kind == MANIFEST and digest(tagged.data) == found
    assert known[f"/v2/acme/cart/manifests/{found}"].data == tagged.data
    manifest = json.loads(tagged.data)
    config = json.loads(known[f"/v2/acme/cart/blobs/{manifest['config']['digest']}"].data)
    assert config["config"]["Cmd"] == ["/bin/serve", "--port", "80"]
    layer = gzip.decompress(known[f"/v2/acme/cart/blobs/{manifest['layers'][0]['digest']}"].data)
    assert config["rootfs"]["diff_ids"] == [digest(layer)]
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert [(each.name, each.uid, each.mtime) for each in tar] == [
            (name, 0, 0) for name in ("bin", "bin/serve", "bin/sh")
        ]
        assert tar.getmember("bin/serve").mode == 0o755 and tar.getmember("bin/sh").linkname == "serve"
    assert served("acme/cart", "1.4", tmp_path, ["/bin/serve", "--port", "80"])[0] == found


def test_an_archive_keeps_its_digest(tmp_path: Path) -> None:
    (tmp_path / "cart.tar").write_bytes(archive(PAGE))
    found, files = served("acme/cart", "1", tmp_path / "cart.tar")
    assert found == image_of(PAGE.layer(), PAGE.config())[1]["digest"]
    assert len(files) == 1 + 3 + 1


def test_an_index_brings_the_manifests_that_it_names(tmp_path: Path) -> None:
    made = [image_of(PAGE.layer(), PAGE.config(), each) for each in ("amd64", "arm64")]
    index = json.dumps({"schemaVersion": 2, "manifests": [top for _, top in made]}).encode()
    blobs = {digest(index): index, **made[0][0], **made[1][0]}

    def packed(contents: dict[str, bytes]) -> Path:
        files = {f"blobs/{each.replace(':', '/')}": (data, 0o644) for each, data in contents.items()}
        files["index.json"] = (json.dumps({"manifests": [descriptor(INDEX, index)]}).encode(), 0o644)
        (tmp_path / "cart.tar").write_bytes(Image(files=files).layer())
        return tmp_path / "cart.tar"

    found, files = served("acme/cart", "1", packed(blobs))
    known = by_path(files)
    assert found == digest(index) and known["/v2/acme/cart/manifests/1"].kind == INDEX
    for _, top in made:
        assert known[f"/v2/acme/cart/manifests/{top['digest']}"].kind == MANIFEST
    # `docker save` of one architecture leaves the others out.
    del blobs[made[1][1]["digest"]]
    with pytest.raises(PublishError, match="is not in the archive"):
        served("acme/cart", "1", packed(blobs))


@pytest.mark.parametrize("content", [b"", b"not a tar", Image(files={"a": (b"", 0o644)}).layer()])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cart.tar").write_bytes(content)
    for file in ("cart.tar", "absent.tar"):
        with pytest.raises(PublishError, match="is not an archive with one image"):
            served("acme/cart", "1", tmp_path / file)
