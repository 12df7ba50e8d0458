"""What tests and the demo need from outside: Debian packages, real kernels, a virtual environment.

Standard library only: it runs before anything is installed.
"""
