"""The stories: one verb's course each, from positional arguments and settings to an exit status.

Every story is a module with `run(args, settings, out, err) -> int`: `args` are the verb's positional
arguments, `out` takes the data, `err` all else; errors are raised, `cli` alone turns them into messages.
"""
