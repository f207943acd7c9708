"""MkDocs hook that builds the documentation site from the Markdown files at their paths in the repository.

Every page keeps its path, so that links that work in the repository also work on the site. README.md is the home page.
A link to a file that is not part of the site, such as source code, becomes plain text. A link to a file that does not
exist fails the strict build.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/**/*",
    "training/README.md",
    "*/vectors/README.md",
)
"""Patterns of the files that make up the site: Markdown pages and the images that they show."""

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)#:\s]+)(?:#[^)\s]*)?\)")
"""A Markdown link to a relative path. Groups: `text` and `target`, which excludes the fragment."""

LOADED = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\s\">]+")
"""An HTML element that makes a browser load a file from a host that is named in the page."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Replace the files of the docs directory with the files that match PAGES."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted({path for pattern in PAGES for path in ROOT.glob(pattern) if path.is_file()})
    pages = [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls) for path in paths
    ]
    return Files([*theme, *pages])


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: object) -> str:
    """Replace links to repository files that are not part of the site with their text."""
    folder = (ROOT / page.file.src_uri).parent

    def replace(link: re.Match[str]) -> str:
        path = (folder / link["target"]).resolve()
        if not path.is_relative_to(ROOT) or not path.exists():
            return link[0]
        return link[0] if files.get_file_from_path(path.relative_to(ROOT).as_posix()) else link["text"]

    return LINK.sub(replace, markdown)


def on_post_page(output: str, *, page: Page, **_: object) -> str:
    """Raise PluginError if the page would load a script, style, font or image from another host."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads a file from another host: {found[0]}")
    return output
