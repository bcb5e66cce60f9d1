"""`set`: change a setting."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.settings import change, show_value
from distdbg.console.syntax import SettingName
from distdbg.reporters.view import text


@command("set", family="other")
def set(console: Console, name: SettingName, value: str) -> Report:
    """Change a setting of this console; show lists them.

    set width 80
    set timeout 30
    set table github
    """
    change(console.settings, name, value.removeprefix("="))
    shown = show_value(console.settings, name)
    return Report(text(f"{name} is {shown}"), [(console.session.focus, {name: shown})])
