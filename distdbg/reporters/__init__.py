"""What is shown, as data (`view`), and how it is drawn or written. Imports nothing of distdbg but the schema."""
