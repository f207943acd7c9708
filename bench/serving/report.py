"""Results as sections of a document: a heading, tables with goals, and the command that measured them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Table:
    """A heading and rows of cells."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the table in Markdown."""
        lines = (self.heading, ["---"] * len(self.heading), *self.rows)
        return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


@dataclass(frozen=True, slots=True)
class Goal:
    """A measured value and its upper limit, or its lower limit if `at_least`."""

    name: str
    measured: float
    limit: float
    unit: str = "x"
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the value is within the limit."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table of goals."""
        bound = "at least" if self.at_least else "at most"
        return (
            self.name,
            f"{self.measured:.3g} {self.unit}",
            f"{bound} {self.limit:g} {self.unit}",
            "met" if self.met else "**not met**",
        )


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the benchmark. `text` explains what the tables contain."""

    name: str
    title: str
    text: str
    tables: Sequence[Table]
    goals: Sequence[Goal] = ()
    command: str = ""
    """Module and arguments of the command that measures the section. Default: bench.serving and the section's name."""

    @property
    def all_tables(self) -> list[Table]:
        """The table of the goals, if there are any, and the other tables."""
        goals = [Table(("", "measured", "goal", ""), [goal.cells() for goal in self.goals])] if self.goals else []
        return [*goals, *self.tables]

    def markdown(self, machine: str = "") -> str:
        """Return the section in Markdown, between the comments by which `replace_section` finds it.

        `machine` describes where it was measured.
        """
        parts = [f"### {self.title}", f"    python -m {self.command or f'bench.serving {self.name}'}", self.text]
        parts += [table.markdown() for table in self.all_tables]
        parts += [machine] if machine else []
        return "\n\n".join([_begin(self.name), *parts, _end(self.name)])

    def print(self) -> None:
        """Print the tables."""
        console = Console(width=max(Console().width, 140))
        for table in self.all_tables:
            printed = RichTable(*table.heading, title=self.title)
            for cells in table.rows:
                printed.add_row(*cells)
            console.print(printed)


def _begin(name: str) -> str:
    return f"<!-- begin bench.serving {name} -->"


def _end(name: str) -> str:
    return f"<!-- end bench.serving {name} -->"


def replace_section(document: str, section: Section, machine: str) -> str:
    """Return `document` with the section replaced. Raises ValueError unless the section is in it exactly once.

    `machine` describes where the section was measured.
    """
    pattern = re.escape(_begin(section.name)) + ".*?" + re.escape(_end(section.name))
    replaced, count = re.subn(pattern, lambda _match: section.markdown(machine), document, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"the document must contain the section {section.name} exactly once, found {count}")
    return replaced


def clients_text(count: int) -> str:
    """Return a number of clients with its unit."""
    return f"{count} client{'s' if count > 1 else ''}"


def microseconds(seconds: float) -> str:
    """Return a duration in microseconds, without the unit."""
    return f"{seconds * 1e6:.0f}"


def milliseconds(seconds: float) -> str:
    """Return a duration in milliseconds, without the unit."""
    return f"{seconds * 1e3:.2f}"


def megabytes(size: float) -> str:
    """Return a size in megabytes (10^6 bytes), without the unit."""
    return f"{size / 1e6:.1f}"
