"""The report page: a template and what fills it."""
