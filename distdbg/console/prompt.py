"""The interactive prompt. prompt_toolkit is imported only here, in `prompt*.py`."""
