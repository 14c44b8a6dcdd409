"""The project's own lints: words, file names, packages' docstrings and documents' links.

What a general linter can check is configured in `pyproject.toml` and does not belong here.
"""
