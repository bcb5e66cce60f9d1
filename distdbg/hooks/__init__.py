"""Where events come from, one file per source. Each hook is a context manager: open = installed, closed = gone."""
