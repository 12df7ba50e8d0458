"""One module file: its wrappings, its tables, what must go and what must stay."""
