"""The MkDocs hook that builds the documentation site from the repository's Markdown files."""

import pytest
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from scripts import docs_site


@pytest.fixture(scope="module")
def config() -> MkDocsConfig:
    return load_config(str(docs_site.ROOT / "mkdocs.yml"))


@pytest.fixture(scope="module")
def files(config: MkDocsConfig) -> Files:
    return docs_site.on_files(Files([]), config=config)


def page_of(path: str, files: Files, config: MkDocsConfig) -> Page:
    file = files.get_file_from_path(path)
    assert file is not None
    return Page(None, file, config)


def test_pages_keep_their_paths_and_the_readme_is_the_home_page(files: Files) -> None:
    pages = {file.src_uri: file.dest_uri for file in files}
    assert pages["README.md"] == "index.html"
    assert pages["docs/client.md"] == "docs/client.html"
    assert pages["docs/scenes.png"] == "docs/scenes.png"


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("[client](client.md#frames)", "[client](client.md#frames)"),
        ("![scenes](scenes.png)", "![scenes](scenes.png)"),
        ("[plan](../core/plan.py)", "plan"),
        ("[examples](../examples)", "examples"),
        ("[missing](missing.md)", "[missing](missing.md)"),
        ("[outside](../../outside.md)", "[outside](../../outside.md)"),
        ("[web](https://example.org/a.md)", "[web](https://example.org/a.md)"),
    ],
)
def test_links_to_existing_files_outside_the_site_become_text(
    markdown: str, expected: str, files: Files, config: MkDocsConfig
) -> None:
    page = page_of("docs/image.md", files, config)
    assert docs_site.on_page_markdown(markdown, page=page, files=files) == expected


@pytest.mark.parametrize(
    "element",
    [
        '<script src="https://example.org/a.js">',
        '<link rel="stylesheet" href="//example.org/a.css">',
        "<img src=https://a/b>",
    ],
)
def test_page_that_loads_a_file_from_another_host_fails_the_build(
    element: str, files: Files, config: MkDocsConfig
) -> None:
    page = page_of("README.md", files, config)
    with pytest.raises(PluginError, match=r"README\.md loads a file from another host"):
        docs_site.on_post_page(f"<html>{element}</html>", page=page)


def test_page_may_link_to_another_host(files: Files, config: MkDocsConfig) -> None:
    output = '<a href="https://example.org/">web</a><img src="scenes.png">'
    assert docs_site.on_post_page(output, page=page_of("README.md", files, config)) == output


def test_every_page_of_the_docs_directory_is_in_the_site(files: Files) -> None:
    docs = docs_site.ROOT / "docs"
    on_disk = {path.relative_to(docs_site.ROOT).as_posix() for path in docs.rglob("*.md")}
    assert on_disk <= {file.src_uri for file in files}
