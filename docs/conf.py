"""The documentation as a site, by Sphinx: `make docs` writes it to site/.

README, changes, the help of all commands and the glossary become pages beside those of this folder.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parents[1]
MADE = Path(__file__).parent / "made"
"""Pages that exist during a build."""

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")

project = "ens"
html_title = "ens"
default_role = "code"
html_theme = "furo"
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
exclude_patterns = ["*.yaml"]
suppress_warnings = ["myst.header"]


def setup(app: Any) -> None:
    """Write the pages that are made, for one build, and correct links as pages are read."""
    write_pages()
    app.connect("source-read", point_links)
    app.connect("build-finished", lambda *_: shutil.rmtree(MADE))


def write_pages() -> None:
    """Write the pages that are made from the repository and the code."""
    shutil.rmtree(MADE, ignore_errors=True)
    MADE.mkdir()
    copied = {"start": "README.md", "changes": "CHANGELOG.md", "terms": "evaluation/glossary.md"}
    pages = {name: (ROOT / source).read_text(encoding="utf-8") for name, source in copied.items()}
    pages["commands"] = describe_commands()
    for name, text in pages.items():
        (MADE / f"{name}.md").write_text(text, encoding="utf-8")


def point_links(_: Any, page: str, source: list[str]) -> None:
    """Point links at pages of the site; what is no page of it becomes its path.

    Args:
        page: such as `made/start`.
        source: the page's text, in a list of one.
    """
    folder = ROOT if page.startswith("made/") else (ROOT / "docs" / page).parent

    def point(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        path, sharp, anchor = target.partition("#")
        if "://" in target or not path:
            return match[0]
        name = (folder / path).resolve().relative_to(ROOT).as_posix()
        if name in ("README.md", "CHANGELOG.md"):
            name = f"docs/made/{'start' if name == 'README.md' else 'changes'}.md"
        if not name.startswith("docs/") or name.endswith((".yaml", ".csv", ".gz", ".zip")):
            return text if name in text else f"{text} (`{name}`)"
        return f"{image}[{text}](/{name.removeprefix('docs/')}{sharp}{anchor})"

    source[0] = LINK.sub(point, source[0])


def describe_commands() -> str:
    """Return the help of every command, as `--help` prints it."""
    from ensemble.cli import ens

    parts = ["# Commands", "As `ens COMMAND --help` prints it."]
    pending = [("ens", ens, click.Context(ens, info_name="ens", terminal_width=100))]
    while pending:
        path, command, context = pending.pop(0)
        parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```")
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inside = command.get_command(context, name)
                assert inside is not None
                inner = click.Context(inside, info_name=name, parent=context)
                pending.append((f"{path} {name}", inside, inner))
    return "\n\n".join(parts) + "\n"
