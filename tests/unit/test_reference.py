"""components.reference: docs/configuration.md names every key that the code reads, with the code's own default."""

from __future__ import annotations

from pathlib import Path

import pytest

from components import reference, settings
from components.reading import Reader
from components.reference import DOCUMENT, Key, generated, keys, main, unsaid


def test_the_document_is_what_the_code_says() -> None:
    text = DOCUMENT.read_text()
    assert (generated(text) == text, unsaid(text)) == (True, []), "run `make reference`"


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("site", Key(name="zone", default="needed")),
        ("site", Key(name="host", default="`www`")),
        ("site", Key(name="proxied", default="`false`")),
        ("fleets", Key(name="count", default="`1`", takes=("0 to 1000",))),
        ("fleets", Key(name="region", default="none")),
        ("fleets", Key(name="renew", default="empty")),
        ("fleets", Key(name="cloud", default="needed", takes=("`aws`", "`joyent`"))),
        ("services", Key(name="check", default="`tcp:PORT`")),
        ("directory", Key(name="services", default="needed")),
    ],
)
def test_a_key_is_as_the_code_reads_it(table: str, key: Key) -> None:
    assert key in keys(table)


def test_words_stay_with_their_key_and_what_the_code_no_longer_reads_goes() -> None:
    head = "<!-- keys: joyent -->\n| key | default | what |\n|---|---|---|\n"
    made = generated(f"{head}| `keyId` | 7 | the key |\n| `token` | needed | gone |\n\nAfter.\n")
    assert made == f"{head}| `url` | none | … |\n| `account` | none | … |\n| `keyId` | none | the key |\n\nAfter.\n"
    lacking = unsaid(made)
    assert "joyent.url: no words" in lacking and "site: no such table" in lacking
    assert "rollcall:brake: no section" in lacking and not any(each.startswith("joyent.keyId") for each in lacking)


def test_a_key_that_is_new_in_the_code_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def more(reader: Reader) -> None:
        settings._site(reader)
        reader.number("mirrors", 2, least=1, most=9)

    document = tmp_path / "configuration.md"
    document.write_text(DOCUMENT.read_text())
    monkeypatch.setattr(reference, "DOCUMENT", document)
    monkeypatch.setitem(reference._READERS, "site", (more, {"zone": "zone.example"}))
    assert main([]) == 1
    said = capsys.readouterr().err
    assert "site.mirrors: no words" in said and "site.mirrors: 1 to 9 is not named" in said
    assert main(["--write"]) == 1 and "| `mirrors` | `2` | … |" in document.read_text()
    document.write_text(document.read_text().replace("| `2` | … |", "| `2` | how many, 1 to 9 |"))
    assert main([]) == 0
