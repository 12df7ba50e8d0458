"""Tests of pkghook; CONTRIBUTING.md has the table of directories."""
