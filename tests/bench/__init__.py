"""Speed and memory of pkghook against the strip tools, on real kernels. `python3 -m tests.bench --help`.

Standard library only, and small: the memory of whoever starts a process counts as that process's own (see `measure`).
"""
