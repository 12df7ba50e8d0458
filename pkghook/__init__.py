"""pkghook: strip kernel modules while packaging them, verify what was written, account for every byte."""

__version__ = "0.1.0"
