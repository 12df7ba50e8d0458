"""The matrix over distributions: pkghook beside the tools, Pythons and kernels of several Debian releases."""
