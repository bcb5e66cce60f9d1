"""What `set` changes and `show` shows."""

from __future__ import annotations

from dataclasses import dataclass, fields

from distdbg.client.nearest import nearest_names
from distdbg.errors import UsageError

STYLES = ("plain", "simple", "github", "psql", "tsv", "html", "latex")


@dataclass
class Settings:
    """The console's settings; 0 means automatic or without limit."""

    width: int = 0
    timeout: float = 0.0
    context: int = 2
    limit: int = 1000
    pager: bool = True
    table: str = "plain"


MEANINGS = {
    "width": "columns to draw in; 0 takes the terminal's",
    "timeout": "seconds that continue, step and the like wait for a stop; 0 waits for ever",
    "context": "source lines shown around the line of a stop",
    "limit": "values that one values command may show",
    "pager": "on: output taller than the screen goes through $PAGER",
    "table": "how tables are drawn: " + ", ".join(STYLES),
}


def setting_names() -> list[str]:
    """Every setting."""
    return [field.name for field in fields(Settings)]


def require_setting(name: str) -> str:
    """The setting of that name; raises UsageError with the nearest."""
    if name in setting_names():
        return name
    near = nearest_names(name, setting_names(), limit=1)
    hint = f"Nearest: {near[0]}." if near else "There are " + ", ".join(setting_names()) + "."
    raise UsageError(f"No setting {name!r}. {hint}")


def show_value(settings: Settings, name: str) -> str:
    """A setting's value as `set` takes it."""
    value = getattr(settings, require_setting(name))
    return ("on" if value else "off") if isinstance(value, bool) else f"{value:g}" if value != str(value) else value


def change(settings: Settings, name: str, text: str) -> None:
    """Set from text; raises UsageError that says what is valid."""
    current = getattr(settings, require_setting(name))
    value: object
    if isinstance(current, bool):
        if text not in ("on", "off"):
            raise UsageError(f"{name} is on or off, not {text!r}.")
        value = text == "on"
    elif isinstance(current, str):
        if text not in STYLES:
            raise UsageError(f"{name} is one of {', '.join(STYLES)}, not {text!r}.")
        value = text
    else:
        try:
            number = float(text) if isinstance(current, float) else int(text)
        except ValueError:
            raise UsageError(f"{name} is a number, not {text!r}.") from None
        if number < 0:
            raise UsageError(f"{name} cannot be negative.")
        value = number
    setattr(settings, name, value)
