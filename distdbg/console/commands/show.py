"""`show`: the settings."""

from __future__ import annotations

from distdbg.console.console import Console
from distdbg.console.registry import command
from distdbg.console.report import Report
from distdbg.console.settings import MEANINGS, require_setting, setting_names, show_value
from distdbg.console.syntax import SettingName
from distdbg.reporters.view import Table


@command("show", family="other")
def show(console: Console, name: SettingName = "") -> Report:
    """Show all settings, or one."""
    names = [require_setting(name)] if name else setting_names()
    table = Table("", "", "")
    for each in names:
        table.add(each, show_value(console.settings, each), MEANINGS[each])
    data = {each: show_value(console.settings, each) for each in names}
    return Report(table, [(console.session.focus, data)])
