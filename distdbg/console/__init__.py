"""The console: prompt, scripts, completion and the commands. Never imports torch."""
